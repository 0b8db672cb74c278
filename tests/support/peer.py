"""A peer that follows a test's script instead of the rules: raw HTTP, raw frames, raw messages.

It speaks SSH by an `Engine` of ours, so that what is wrong is only what the test makes wrong.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import struct
from collections import deque
from typing import TYPE_CHECKING

import trio

from cotun_trio.errors import ConnectionLost
from cotun_trio.protocol.config import Config
from cotun_trio.protocol.dialect import CHISEL, MARK
from cotun_trio.protocol.remote import Remote
from cotun_trio.ssh import messages
from cotun_trio.ssh.engine import Engine, KeysAgreed, LoggedIn, LoginRequested
from cotun_trio.ssh.scratch import Scratch
from cotun_trio.websocket.frames import FrameFilter, Framer
from tests.support.targets import connect, listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import paramiko

    from cotun_trio.ssh.engine import Event

WINDOW = 2 * 1024 * 1024
MAX_PACKET = 32 * 1024
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def upgrade_request(*, drop: str = "", **changed: str) -> bytes:
    """Return the head of a good upgrade; without the header `drop`, and with others changed.

    Headers are named with underscores: ``sec_websocket_version="8"``.
    """
    headers = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": CHISEL.token,
    }
    by_name = {name.lower().replace("-", "_"): name for name in headers}
    headers |= {by_name.get(name, name): value for name, value in changed.items()}
    lines = [f"{name}: {value}" for name, value in headers.items() if name != drop]
    return "\r\n".join(["GET / HTTP/1.1", *lines, "", ""]).encode("latin-1")


def upgrade_response(request: bytes) -> bytes:
    """Return the 101 that answers `request`."""
    key = next(
        line.partition(b":")[2].strip()
        for line in request.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key:")
    )
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


ENDLESS = 2**62
"""Units of work: a peer in a test takes everything in one turn."""
PING = messages.global_request(b"ping", b"", want_reply=True)


class Gone(Exception):
    """The other side has closed the connection."""


class Peer:
    """One end of a connection; with a `host_key`, the server's.

    It passes for a Go program, or with `ours`, for one of our kind.
    """

    def __init__(
        self,
        stream: trio.SocketStream,
        host_key: paramiko.PKey | None = None,
        *,
        ours: bool = False,
    ) -> None:
        self.stream = stream
        self.server = host_key is not None
        self.request = b""
        """Of a server: the request that came."""
        self.logins: list[tuple[str, str]] = []
        """Of a server: users and passwords that came."""
        version = CHISEL.server_version if self.server else CHISEL.client_version
        version += MARK if ours else ""
        self.engine = Engine(version, Scratch(), host_key=host_key)
        self._frames = FrameFilter(from_client=self.server)
        self._frames.trust_peer()
        self._frames.use_budget(self.engine.packetizer.budget)
        self._early = b""
        self._events: deque[Event | bytes] = deque()

    # ---- HTTP and frames

    async def receive_head(self) -> bytes:
        """Read an HTTP head; what comes behind it is kept."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += await self._receive()
        head, _, self._early = data.partition(b"\r\n\r\n")
        return head + b"\r\n\r\n"

    async def upgrade(self) -> None:
        """Do the WebSocket handshake, on either side."""
        if self.server:
            self.request = await self.receive_head()
            await self.stream.send_all(upgrade_response(self.request))
        else:
            await self.stream.send_all(upgrade_request())
            head = await self.receive_head()
            assert head.startswith(b"HTTP/1.1 101 "), head

    async def _receive(self) -> bytes:
        try:
            data = bytes(await self.stream.receive_some())
        except trio.BrokenResourceError as error:
            raise Gone from error
        if not data:
            raise Gone
        return data

    async def send_bytes(self, data: bytes) -> None:
        """Send `data` on the byte stream: in binary messages."""
        with contextlib.suppress(trio.BrokenResourceError):  # reading says so, too
            framer = Framer(mask=not self.server)
            await self.stream.send_all(b"".join(framer.frames(bytearray(data))))

    async def send_raw(self, data: bytes) -> None:
        """Send `data` as it is."""
        with contextlib.suppress(trio.BrokenResourceError):
            await self.stream.send_all(data)

    # ---- SSH

    async def flush(self) -> None:
        """Send what the engine wants to say."""
        out = self.engine.packetizer.out
        if out:
            data = bytes(out)
            out.clear()
            await self.send_bytes(data)

    async def send(self, *payloads: bytes) -> None:
        """Send SSH messages, in one write."""
        for payload in payloads:
            self.engine.packetizer.send_payload(payload)
        await self.flush()

    async def next_event(self) -> Event | bytes:
        """Return the next event of the engine, or message of the connection protocol."""
        while not self._events:
            data = self._early or await self._receive()
            self._early = b""
            self.engine.packetizer.start_batch()
            self.engine.packetizer.budget.left = ENDLESS

            def take(view: memoryview) -> None:
                for event in self.engine.receive(view):
                    self._events.append(bytes(event) if isinstance(event, memoryview) else event)

            try:
                self._frames.feed(memoryview(data), take)
            except ConnectionLost as error:  # a DISCONNECT
                raise Gone from error
            await self.flush()
        return self._events.popleft()

    async def receive(self) -> bytes:
        """Return the next message of the connection protocol that is no ping; those it answers."""
        while True:
            event = await self.next_event()
            if event == PING:
                await self.send(bytes((messages.REQUEST_SUCCESS,)) + b"pong")
            elif isinstance(event, bytes):
                return event

    async def receive_type(self, kind: int) -> bytes:
        """Return the next message of the type `kind`."""
        while (message := await self.receive())[0] != kind:
            pass
        return message

    async def agree_keys(self) -> None:
        """Exchange version lines and keys."""
        await self.flush()
        while not isinstance(await self.next_event(), KeysAgreed):
            pass

    async def log_in(self, user: str = "", password: str = "") -> None:
        """Log in, as a client."""
        self.engine.log_in(user, password)
        await self.flush()
        while not isinstance(await self.next_event(), LoggedIn):
            pass

    async def let_in(self) -> None:
        """Accept the login, as a server."""
        while not isinstance(event := await self.next_event(), LoginRequested):
            pass
        self.logins.append((event.user, event.password))
        self.engine.answer_login(accepted=True)
        await self.flush()

    async def send_config(self, *remotes: str, payload: bytes | None = None) -> bytes:
        """Send a config request; return the answer."""
        if payload is None:
            payload = Config("0", tuple(map(Remote.parse, remotes))).encode()
        await self.send(messages.global_request(b"config", payload, want_reply=True))
        return await self.receive()

    async def accept_config(self, reply: bytes = b"", *behind: bytes) -> bytes:
        """Wait for a config request, as a server, and accept it; return its payload.

        The messages `behind` come in the same read as the reply.
        """
        request = await self.receive_type(messages.GLOBAL_REQUEST)
        await self.send(bytes([messages.REQUEST_SUCCESS]) + reply, *behind)
        return request

    async def open_channel(self, target: str) -> int:
        """Open our channel 0; return the other side's number for it."""
        await self.send(messages.channel_open(b"chisel", 0, WINDOW, MAX_PACKET, target.encode()))
        answer = await self.receive_type(messages.CHANNEL_OPEN_CONFIRMATION)
        number: int = struct.unpack_from(">I", answer, 5)[0]
        return number

    async def refused_channel(self, target: str) -> int:
        """Ask for a channel that has to be refused; return the reason code."""
        await self.send(messages.channel_open(b"chisel", 0, WINDOW, MAX_PACKET, target.encode()))
        answer = await self.receive()
        assert answer[0] == messages.CHANNEL_OPEN_FAILURE
        code: int = struct.unpack_from(">I", answer, 5)[0]
        return code

    async def let_client_in(self, reply: bytes = b"", *behind: bytes) -> bytes:
        """Do all that a server does before the session is open; return the config request.

        `reply` and `behind` are for `accept_config`.
        """
        await self.upgrade()
        await self.agree_keys()
        await self.let_in()
        return await self.accept_config(reply, *behind)

    async def gone(self) -> bool:
        """Read and drop everything up to the end, which has to come; return true."""
        with contextlib.suppress(Gone):
            while True:
                await self._receive()
        return True


# ---- stages of a client's life, for tests that begin at each of them


@contextlib.asynccontextmanager
async def peer_of(address: str, stage: str = "connected") -> AsyncIterator[Peer]:
    """Connect to a server and get as far as `stage`.

    The stages are connected, upgraded, keyed (keys are agreed), in (logged in) and open.
    """
    stages = ["connected", "upgraded", "keyed", "in", "open"]
    far = stages.index(stage)
    async with await connect(address) as stream:
        peer = Peer(stream)
        steps: list[Callable[[], Awaitable[object]]] = [
            peer.upgrade,
            peer.agree_keys,
            peer.log_in,
            peer.send_config,
        ]
        for step in steps[:far]:
            await step()
        yield peer


@contextlib.asynccontextmanager
async def scripted_server(
    script: Callable[[Peer], Awaitable[object]], host_key: paramiko.PKey, *, ours: bool = False
) -> AsyncIterator[str]:
    """Run `script` for every client that comes; give the address.  `Gone` ends a script."""

    async def handle(stream: trio.SocketStream) -> None:
        with contextlib.suppress(Gone):
            await script(Peer(stream, host_key, ours=ours))

    async with listening(handle) as address:
        yield address
