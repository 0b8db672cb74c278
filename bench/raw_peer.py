"""A peer that sends what it is told to: raw frames, and SSH messages in any order.

It speaks SSH by an `Engine` of ours, so that it gets as far as a client can: upgraded, with keys
agreed, logged in, with a channel.  `RawPeer.sealed` makes the bytes for the network beforehand, so
that sending them costs next to nothing.
"""

from __future__ import annotations

import contextlib
import ssl
from collections import deque
from typing import TYPE_CHECKING

import attrs
import trio

from bench.processes import LOOPBACK, PATIENCE, BenchError
from cotun_trio.errors import CotunError
from cotun_trio.protocol.config import Config
from cotun_trio.protocol.dialect import CHISEL
from cotun_trio.ssh import messages
from cotun_trio.ssh.engine import Engine, KeysAgreed, LoggedIn
from cotun_trio.ssh.scratch import Scratch
from cotun_trio.websocket.frames import FrameFilter, frame_head

if TYPE_CHECKING:
    from collections.abc import Iterator

    import paramiko

    from cotun_trio.ssh.engine import Event

WINDOW = 2**31 - 1
"""Bytes that the server may send on our channel: nobody adjusts it."""
MAX_PACKET = 32 * 1024
FRAME = 16 * 1024
"""Bytes of SSH in a frame."""
MASK = bytes(4)
"""A mask that changes nothing, so that masking takes no time here."""
RECEIVE = 64 * 1024
UPGRADE = (
    "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Protocol: {CHISEL.token}\r\n\r\n"
).encode()
STAGES = ("connected", "upgraded", "keyed", "in", "open")
"""How far a client can get: TCP (and TLS), HTTP, SSH keys, the login, the config request."""
ENDLESS = 2**62
"""Units of work: an attacker takes all that comes in one turn."""
_SCRATCH = Scratch()  # of all peers here: it is never held across an await


class PeerError(BenchError):
    """The server has refused us, or cut us."""


FAILURES = (PeerError, OSError, trio.BrokenResourceError, trio.TooSlowError, CotunError)
"""What the other side can do to us."""


@attrs.frozen(kw_only=True)
class Address:
    """Where a server is, and how it is spoken to."""

    port: int
    ca: str | None = None
    """For TLS: a file with the authority that has issued the server's certificate."""
    record: int = 16 * 1024
    """For TLS: bytes in a record."""


@attrs.frozen(kw_only=True)
class Login:
    """A user of the server's."""

    user: str
    password: str = attrs.field(repr=False)


class RawPeer:
    """One end of a connection: a client's, or with a `host_key` a server's."""

    def __init__(
        self, stream: trio.SocketStream, address: Address, host_key: paramiko.PKey | None = None
    ) -> None:
        server = host_key is not None
        version = CHISEL.server_version if server else CHISEL.client_version
        self.engine = Engine(version, _SCRATCH, host_key=host_key)
        self.channel = 0
        """The server's number of our only channel."""
        self.count = 0
        """A number that was not given before."""
        self._stream = stream
        self._record = address.record
        self._mask = None if server else MASK
        self._frames = FrameFilter(from_client=server)
        self._frames.use_budget(self.engine.packetizer.budget)
        self._frames.trust_peer()
        self._events: deque[Event | bytes] = deque()
        self._early = b""
        self._tls: ssl.SSLObject | None = None
        if address.ca is not None:
            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = ssl.create_default_context(cafile=address.ca).wrap_bio(
                self._incoming, self._outgoing, server_hostname=LOOPBACK
            )

    # ---- bytes

    def sealed(self, data: bytes) -> bytes:
        """Return `data` as it goes over the network; what is sealed first has to be sent first."""
        if self._tls is None:
            return data
        for at in range(0, len(data), self._record):
            self._tls.write(data[at : at + self._record])
        return self._outgoing.read()

    async def send_sealed(self, data: bytes) -> None:
        """Send what `sealed` has returned."""
        await self._stream.send_all(data)

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        await self.send_sealed(self.sealed(data))

    async def receive(self) -> bytes:
        """Return some bytes of the server's.  Raises `PeerError` at their end."""
        while True:
            if self._tls is not None:
                try:
                    data = self._tls.read(RECEIVE)
                except ssl.SSLWantReadError:
                    data = b""
                if data:
                    return data
            data = bytes(await self._stream.receive_some(RECEIVE))
            if not data:
                raise PeerError("the server has closed the connection")
            if self._tls is None:
                return data
            self._incoming.write(data)

    async def drain(self) -> None:
        """Take everything that the server sends, and look at none of it, up to the end."""
        with contextlib.suppress(trio.BrokenResourceError):
            while await self._stream.receive_some(RECEIVE):
                pass

    def close(self) -> None:
        """Close the connection."""
        self._stream.socket.close()

    async def handshake_tls(self) -> None:
        """Agree on TLS, where it is spoken."""
        while self._tls is not None:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._stream.send_all(self._outgoing.read())
                data = bytes(await self._stream.receive_some(RECEIVE))
                if not data:
                    raise PeerError("the server has closed the connection") from None
                self._incoming.write(data)
            else:
                await self._stream.send_all(self._outgoing.read())
                return

    # ---- stages

    async def reach(self, stage: str, login: Login | None) -> None:
        """Get as far as `stage`."""
        far = STAGES.index(stage)
        await self.handshake_tls()
        if far >= STAGES.index("upgraded"):
            await self._upgrade()
        if far >= STAGES.index("keyed"):
            await self.flush()
            await self.wait_for(KeysAgreed)
        if far >= STAGES.index("in"):
            assert login is not None
            self.engine.log_in(login.user, login.password)
            await self.flush()
            await self.wait_for(LoggedIn)
        if far >= STAGES.index("open"):
            config = Config("0", ()).encode()
            self.say(messages.global_request(b"config", config, want_reply=True))
            await self.flush()
            await self.wait_for_message(messages.REQUEST_SUCCESS)

    async def receive_head(self) -> bytes:
        """Return an HTTP head; what comes behind it is kept."""
        head = b""
        while b"\r\n\r\n" not in head:
            head += await self.receive()
        head, _, self._early = head.partition(b"\r\n\r\n")
        return head

    async def _upgrade(self) -> None:
        await self.send(UPGRADE)
        head = await self.receive_head()
        if not head.startswith(b"HTTP/1.1 101 "):
            raise PeerError(f"the server answers {head[:40]!r}")

    async def open_channel(self, target: str) -> None:
        """Open our only channel."""
        opening = messages.channel_open(b"chisel", 0, WINDOW, MAX_PACKET, target.encode())
        self.say(opening)
        await self.flush()
        answer = await self.wait_for_message(messages.CHANNEL_OPEN_CONFIRMATION)
        self.channel = int.from_bytes(answer[5:9], "big")

    # ---- SSH

    def say(self, *payloads: bytes) -> None:
        """Have messages wait for `flush`, or for `waiting`."""
        for payload in payloads:
            self.engine.packetizer.send_payload(payload)

    def waiting(self) -> bytes:
        """Take out what waits, as WebSocket frames."""
        out = self.engine.packetizer.out
        data = bytes(out)
        out.clear()
        return b"".join(frames(data, self._mask))

    async def flush(self) -> None:
        """Send what waits."""
        if self.engine.packetizer.out:
            await self.send(self.waiting())

    async def next_event(self) -> Event | bytes:
        """Return the next event of the engine's, or message of the connection protocol."""
        while not self._events:
            data, self._early = self._early or await self.receive(), b""
            self.engine.packetizer.start_batch()
            self.engine.packetizer.budget.left = ENDLESS
            self._frames.feed(memoryview(data), self._take)
            await self.flush()
        return self._events.popleft()

    def _take(self, view: memoryview) -> None:
        for event in self.engine.receive(view):
            self._events.append(bytes(event) if isinstance(event, memoryview) else event)

    async def wait_for(self, kind: type[Event]) -> None:
        """Wait for an event."""
        while not isinstance(await self.next_event(), kind):
            pass

    async def wait_for_message(self, kind: int) -> bytes:
        """Return the next message of a type.  Raises `PeerError` where it is the refusal of it."""
        while True:
            event = await self.next_event()
            if isinstance(event, bytes):
                if event[0] == kind:
                    return event
                if event[0] in (messages.REQUEST_FAILURE, messages.CHANNEL_OPEN_FAILURE):
                    raise PeerError(f"the server refuses: {event[:80]!r}")


def frames(data: bytes, mask: bytes | None) -> Iterator[bytes]:
    """Yield `data` as binary WebSocket messages."""
    for at in range(0, len(data), FRAME):
        piece = data[at : at + FRAME]
        yield frame_head(len(piece), mask)
        yield piece


async def connect(
    address: Address,
    stage: str,
    *,
    login: Login | None = None,
    source: str = LOOPBACK,
    target: str | None = None,
) -> RawPeer:
    """Connect, and get as far as `stage`; open a channel, too, where there is a `target`.

    Raises `PeerError` where the server does not have us.
    """
    sock = trio.socket.socket()
    try:
        with trio.fail_after(PATIENCE):
            await sock.bind((source, 0))
            await sock.connect((LOOPBACK, address.port))
            peer = RawPeer(trio.SocketStream(sock), address)
            await peer.reach(stage, login)
            if target is not None:
                await peer.open_channel(target)
    except FAILURES as error:
        sock.close()
        raise PeerError(f"{type(error).__name__}: {error}") from error
    except BaseException:
        sock.close()
        raise
    return peer
