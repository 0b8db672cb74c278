"""SSH packets, sans-I/O: network bytes in and payloads out; payloads in and network bytes out.

This takes the place of ``paramiko.packet.Packetizer``, under the names that a paramiko Transport
calls, but touches no socket: packets to be sent collect in `Packetizer.out`.  Only AES-GCM is
spoken (RFC 5647, in the variant ``aes128-gcm@openssh.com``: the packet length is authenticated but
not encrypted), because the engine negotiates nothing else.  Padding is zeros: under an AEAD cipher
its content is invisible to all but the peer (RFC 4253 section 6 only recommends random bytes).

Channel data takes a way of its own that copies nothing: the caller reads into `data_slots`, and
`seal_data` encrypts from there into the buffer that it returns.

Packets are work, even empty ones: splitting stops where the budget of the turn is spent
(`cotun_trio.budget`), and keeps the rest for the next call.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import attrs
from cryptography.exceptions import InvalidTag

from cotun_trio.budget import PACKET, Budget
from cotun_trio.errors import ProtocolError
from cotun_trio.ssh.scratch import HEAD, MAX_PACKET, MAX_PACKET_IN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from cotun_trio.ssh.scratch import Scratch

MAX_PACKET_BEFORE_LOGIN = 35_000
"""Bytes: every implementation must take as many (RFC 4253 section 6.1), and no login needs more."""
TAG = 16
"""Bytes of an AES-GCM tag."""
_COUNTER_MASK = 2**64 - 1
_SEQUENCE_MASK = 2**32 - 1
_U32 = struct.Struct(">I")
_DATA_HEAD = struct.Struct(">BBII")
_CHANNEL_DATA = 94
_ZEROS = [bytes(n) for n in range(32)]
_NOTHING = memoryview(b"")


@attrs.frozen
class RekeyLimit:
    """How much one set of keys may carry, both ways together.

    The defaults are far inside the safe use of AES-GCM with SSH's packet sizes (RFC 5647 section
    8 and RFC 4344 section 3.1 ask for less than 2³² packets), and rare enough to cost nothing.
    """

    bytes: int = 16 * 2**30
    packets: int = 2**31


class _Direction:
    """The cipher of one direction: the key, and the nonce's fixed part and counter (RFC 5647)."""

    __slots__ = ("cipher", "counter", "fixed")

    def __init__(self, cipher: AESGCM, iv: bytes) -> None:
        self.cipher = cipher
        self.fixed = iv[:4]
        self.counter = int.from_bytes(iv[4:], "big")

    def nonce(self) -> bytes:
        nonce = self.fixed + self.counter.to_bytes(8, "big")
        self.counter = (self.counter + 1) & _COUNTER_MASK
        return nonce


class Packetizer:
    """The packets of one connection, both ways."""

    def __init__(self, scratch: Scratch, rekey_limit: RekeyLimit) -> None:
        self.out = bytearray()
        """Packets ready for the network.  The sender empties it."""
        self.budget = Budget()
        """The work that a turn may do; `start_batch` begins a turn."""
        self.held = False
        """While true nothing more is split: bytes that arrive are kept for the next `packets`."""
        self.max_packet_in = MAX_PACKET_BEFORE_LOGIN
        self.sequence_in = 0
        """Of the packet that comes next."""
        self._scratch = scratch
        self._rekey_limit = rekey_limit
        self._inbound: _Direction | None = None
        self._outbound: _Direction | None = None
        self._carry = bytearray()  # the beginning of a packet whose end has not arrived
        self._rest = _NOTHING  # bytes behind the last packet of a turn, or behind that of `hold`
        self._plain_used = 0
        self._bytes = self._packets = 0  # carried by the present keys

    # ---- in

    def start_batch(self) -> None:
        """Begin a turn, and forget the payloads handed out so far: their memory is used again."""
        self._plain_used = 0
        self.budget.begin()

    def hold(self) -> None:
        """Split nothing more until `go_on`."""
        self.held = True

    def go_on(self) -> None:
        """Split again: the next `packets` begins with the bytes that were kept."""
        self.held = False

    def trust_peer(self) -> None:
        """Take larger packets: the peer has logged in."""
        self.max_packet_in = MAX_PACKET_IN

    @property
    def unfinished(self) -> bool:
        """Whether there is a rest for the next `packets`, which needs no more data then."""
        return bool(self._rest)

    def packets(self, data: memoryview) -> Iterator[memoryview]:
        """Yield the payload of each packet that `data` completes, as far as the budget goes.

        A payload is valid until `start_batch`.  Raises `ProtocolError` for a length that cannot be
        and for a packet that was tampered with; nothing can follow that.
        """
        if self._rest:  # nothing is carried then
            data = memoryview(b"".join((self._rest, data))) if data else self._rest
            self._rest = _NOTHING
            return self._split(data, kept=True)
        return self._resume(data) if self._carry else self._split(data)

    def _resume(self, data: memoryview) -> Iterator[memoryview]:
        """Go on behind the bytes that were carried."""
        # Complete the carried packet alone, so that the bulk of `data` is not copied.
        while data and (missing := self._missing()) > 0:
            self._carry += data[:missing]
            data = data[missing:]
        carried, self._carry = self._carry, bytearray()
        yield from self._split(memoryview(carried), kept=True)
        if self._rest and data:
            self._rest = memoryview(b"".join((self._rest, data)))
        elif data:
            yield from self._split(data)

    def _missing(self) -> int:
        """Return how many bytes the first carried packet lacks, as far as can be told by now."""
        have = len(self._carry)
        if have < 4:
            return 4 - have
        return self._length(self._carry, 0) + (4 if self._inbound is None else 4 + TAG) - have

    def _length(self, data: memoryview | bytearray, at: int) -> int:
        """Return the checked packet length that stands in `data` at `at`."""
        length: int = _U32.unpack_from(data, at)[0]
        # RFC 4253 section 6: blocks of 8 before encryption counting the length itself; RFC 5647
        # section 7.2: of 16 with AES-GCM, not counting it.
        aligned = length & 15 == 0 if self._inbound is not None else length & 7 == 4
        if not aligned or not 12 <= length <= self.max_packet_in:
            raise ProtocolError(f"impossible SSH packet length {length}")
        return length

    def _split(self, data: memoryview, *, kept: bool = False) -> Iterator[memoryview]:
        """Split `data`; where it was `kept`, it is ours already, and need not be copied."""
        budget = self.budget
        at, end = 0, len(data)
        while end - at >= 4 and not self.held and budget.left > 0:
            length = self._length(data, at)
            body = at + 4
            inbound = self._inbound  # anew each time: NEWKEYS can be one of these packets
            if inbound is None:
                stop = body + length
                if stop > end:
                    break
                plain = data[body:stop]
            else:
                stop = body + length + TAG
                if stop > end:
                    break
                used = self._plain_used
                plain = self._scratch.plain[used : used + length]
                self._plain_used = used + length
                counter = inbound.counter
                inbound.counter = (counter + 1) & _COUNTER_MASK
                nonce = inbound.fixed + counter.to_bytes(8, "big")
                try:
                    inbound.cipher.decrypt_into(nonce, data[body:stop], data[at:body], plain)
                except InvalidTag:
                    raise ProtocolError("an SSH packet failed its integrity check") from None
            at = stop
            padding = plain[0]
            if padding < 4 or padding + 2 > length:
                raise ProtocolError(f"impossible SSH padding length {padding}")
            self.sequence_in = (self.sequence_in + 1) & _SEQUENCE_MASK
            self._bytes += length
            self._packets += 1
            budget.left -= PACKET
            yield plain[1 : length - padding]
        else:
            if end - at >= 4:
                self._rest = data[at:] if kept else memoryview(bytes(data[at:]))
                return
        if at < end:
            self._carry += data[at:]

    # ---- out

    def send_payload(self, payload: bytes) -> None:
        """Append one packet with `payload` to `out`."""
        size = len(payload) + 1
        outbound = self._outbound
        if outbound is None:
            padding = 8 - (size + 4) % 8
            padding += 8 if padding < 4 else 0
            self.out += _U32.pack(size + padding) + bytes((padding,)) + payload + _ZEROS[padding]
            return
        padding = 16 - size % 16
        padding += 16 if padding < 4 else 0
        length = _U32.pack(size + padding)
        plain = bytes((padding,)) + payload + _ZEROS[padding]
        self.out += length
        self.out += outbound.cipher.encrypt(outbound.nonce(), plain, length)
        self._bytes += size + padding
        self._packets += 1

    def data_slots(self, limit: int, max_packet: int) -> list[memoryview]:
        """Return where to put up to `limit` bytes of channel data, packets of `max_packet` each.

        Fill them in order, then call `seal_data`.  Room for several packets is given only where
        they are of full size, which is when it matters.
        """
        rooms = self._scratch.rooms
        if max_packet < MAX_PACKET:
            return [rooms[0][: min(limit, max_packet)]]
        full, rest = divmod(limit, MAX_PACKET)
        views = rooms[:full]
        if rest and full < len(rooms):
            views.append(rooms[full][:rest])
        return views

    def seal_data(self, recipient: int, count: int) -> memoryview:
        """Return the packets that carry the first `count` bytes of `data_slots` to a channel.

        The result is valid until the next call here.  Only for use once keys are agreed.
        """
        outbound = self._outbound
        assert outbound is not None
        encrypt_into, fixed, counter = (
            outbound.cipher.encrypt_into,
            outbound.fixed,
            outbound.counter,
        )
        out = self._scratch.sealed
        at = 0
        for slot in self._scratch.slots:
            size = count if count < MAX_PACKET else MAX_PACKET
            count -= size
            padding = 16 - (size + HEAD) % 16
            if padding < 4:
                padding += 16
            end = HEAD + size
            length = end + padding
            _DATA_HEAD.pack_into(slot, 0, padding, _CHANNEL_DATA, recipient, size)
            slot[end:length] = _ZEROS[padding]
            head = _U32.pack(length)
            body = at + 4
            out[at:body] = head
            at = body + length + TAG
            encrypt_into(fixed + counter.to_bytes(8, "big"), slot[:length], head, out[body:at])
            counter = (counter + 1) & _COUNTER_MASK
            self._packets += 1
            if not count:
                break
        outbound.counter = counter
        self._bytes += at
        return out[:at]

    # ---- called by paramiko's Transport

    def send_message(self, message: Any) -> None:
        """Append a ``paramiko.Message``."""
        self.send_payload(message.asbytes())

    @property
    def carried(self) -> int:
        """Bytes that the present keys have carried, both ways together."""
        return self._bytes

    def need_rekey(self) -> bool:
        """Whether the present keys have carried as much as they should."""
        limit = self._rekey_limit
        return self._bytes >= limit.bytes or self._packets >= limit.packets

    def set_outbound_cipher(
        self, block_engine: AESGCM, *, iv_out: bytes, aead: bool, **_others: object
    ) -> None:
        """Seal everything from here on with a new key."""
        assert aead
        self._outbound = _Direction(block_engine, iv_out)
        self._bytes = self._packets = 0

    def set_inbound_cipher(
        self, block_engine: AESGCM, *, iv_in: bytes, aead: bool, **_others: object
    ) -> None:
        """Open everything from here on with a new key."""
        assert aead
        self._inbound = _Direction(block_engine, iv_in)

    def reset_seqno_out(self) -> None:
        """Strict key exchange: nothing to do, AES-GCM does not use the number that we send."""

    def reset_seqno_in(self) -> None:
        """Strict key exchange starts the count again after NEWKEYS."""
        self.sequence_in = 0

    def set_log(self, _log: object) -> None:
        """Packets are not logged."""

    def close(self) -> None:
        """Nothing is held that would need it."""

    _initial_kex_done = False  # a flag of the Transport's, kept here for it


assert MAX_PACKET_IN >= MAX_PACKET + HEAD
