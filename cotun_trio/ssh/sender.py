"""The sending half of a connection: it decides when a message may go out.

Data is sent on the carrier by the task that produces it, after a wait until the carrier has no
backlog.  Control messages (all others) may always be sent, because their number is bounded by the
messages of the peer.  In the middle of a turn they are collected, and go out as one piece at its
end.

While keys are exchanged, the connection protocol has to be silent (RFC 4253 section 7.1): data
stays where it is, since `can_send` is false, and control messages are kept in order here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from cotun_trio.errors import ProtocolError
from cotun_trio.ssh import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.errors import CotunError
    from cotun_trio.ssh.engine import Engine
    from cotun_trio.ssh.protocols import Carrier

MAX_HELD_BYTES = 1024 * 1024
"""Bytes of control messages that may wait for the end of a key exchange."""
SMALL = 4096
"""Bytes.  Less than this at once is a keystroke, a question, an answer; not bulk."""


class Sender:
    """Sends the messages of one connection on its `carrier`; `fail` ends the session."""

    def __init__(
        self, engine: Engine, carrier: Carrier, fail: Callable[[CotunError], None]
    ) -> None:
        self.carrier = carrier
        self.data_slots = engine.packetizer.data_slots
        """See `cotun_trio.ssh.packetizer.Packetizer.data_slots`."""
        self.small_sends = 0
        """How often `send_data` sent less than `SMALL`: the peer may be waiting for it."""
        self._engine = engine
        self._fail = fail
        self._packetizer = engine.packetizer
        self._corked = self._disconnected = self._lost = False
        self._last_words = ""
        self._held: list[bytes] = []  # control messages that wait for the end of a key exchange
        self._held_size = 0
        self._keys = trio.lowlevel.ParkingLot()  # senders that wait for the end of a key exchange

    # ---- data

    @property
    def can_send(self) -> bool:
        """Whether data may be sent now: no key exchange is under way, and the carrier is idle."""
        return self._engine.may_send and not self.carrier.busy

    async def wait_can_send(self, *, urgent: bool) -> None:
        """Wait until `can_send`; `urgent` senders go first.  Raises `trio.BrokenResourceError`."""
        while not self.can_send:
            if self._lost:
                raise trio.BrokenResourceError("the connection is lost")
            if self._engine.may_send:
                await self.carrier.wait_idle(urgent=urgent)
            else:
                await self._keys.park()

    def send_data(self, recipient: int, count: int) -> None:
        """Send the first `count` bytes of `data_slots` to the peer's channel `recipient`."""
        packetizer = self._packetizer
        if packetizer.out:
            self.flush()
        if count < SMALL:
            self.small_sends += 1
        self.carrier.send(packetizer.seal_data(recipient, count))
        if packetizer.need_rekey():
            self._engine.start_rekey()
            self.flush()

    # ---- control messages

    def send_control(self, *payloads: bytes) -> None:
        """Send control messages of the connection protocol, as soon as that is allowed."""
        if self._lost:
            return
        if self._engine.may_send:
            for payload in payloads:
                self._packetizer.send_payload(payload)
            if not self._corked:
                self.uncork()
            return
        self._held += payloads
        self._held_size += sum(map(len, payloads))
        if self._held_size > MAX_HELD_BYTES:
            # Not raised: the caller may be a forward, which has nothing to do with it.
            self._fail(ProtocolError("a key exchange that does not come to its end"))

    def end_reasons(self, words: str) -> None:
        """End the reason of a DISCONNECT with `words`, from now on."""
        self._last_words = words

    def disconnect(self, code: int, reason: str) -> None:
        """Send a DISCONNECT, once.  The peer may not read it any more."""
        if not (self._lost or self._disconnected):
            self._disconnected = True
            self._packetizer.send_payload(messages.disconnect(code, reason + self._last_words))
            self.flush()

    def cork(self) -> None:
        """Collect control messages until `uncork`."""
        self._corked = True

    def uncork(self) -> None:
        """Send the messages collected; begin a key exchange where the present keys are used up."""
        self._corked = False
        packetizer = self._packetizer
        if packetizer.need_rekey():
            self._engine.start_rekey()
        if packetizer.out:
            self.flush()

    def flush(self) -> None:
        """Send the packets that are ready, without a rekey."""
        out = self._packetizer.out
        if out:
            self.carrier.send(out)
            out.clear()

    # ---- called by the connection

    def on_keys_renewed(self) -> None:
        """Send the messages that waited for the end of a key exchange; wake the senders of data."""
        held, self._held, self._held_size = self._held, [], 0
        for payload in held:
            self._packetizer.send_payload(payload)
        self._keys.unpark_all()

    def on_lost(self) -> None:
        """Send nothing more, and wake the tasks that wait to send."""
        self._lost = True
        self._engine.stop()
        self._keys.unpark_all()
