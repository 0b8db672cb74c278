"""Proxies of the tests' own: HTTP's CONNECT and SOCKS5, well-behaved and otherwise."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
from typing import TYPE_CHECKING

import attrs
import trio

from tests.support.targets import connect, listening, receive_exactly

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

Near = trio.SocketStream | trio.SSLStream  # type: ignore[type-arg]


@attrs.define
class Proxy:
    """A proxy, and how it behaves."""

    user: str = ""
    password: str = ""
    """Wanted of clients, where there is a user."""
    digest: str = ""
    """The algorithm of Digest by which it wants them; without, it is Basic."""
    stale: int = 0
    """How many right answers it takes for outdated ones."""
    page: bytes | None = None
    """A page about the login; with one, the connection stays open behind it."""
    gone: bool = False
    """Whether the connection is closed behind that page all the same."""
    dribble: bool = False
    """Whether its answer comes a byte at a time."""
    early: bytes = b""
    """Sent in one piece with the answer, as if the other side had been quick."""
    answer: bytes = b""
    """Sent in place of all else."""
    stall: bool = False
    """Whether it never answers."""
    tls: ssl.SSLContext | None = None
    asked: list[str] = attrs.field(factory=list)
    """Where clients wanted to go, ``host:port`` as they wrote it."""
    heads: list[bytes] = attrs.field(factory=list)
    connections: int = 0
    address: str = ""

    async def _reply(self, near: Near, data: bytes) -> None:
        if not self.dribble:
            await near.send_all(data)
            return
        for at in range(len(data)):
            await near.send_all(data[at : at + 1])
            await trio.lowlevel.checkpoint()

    async def _misbehaves(self, near: Near) -> bool:
        if self.stall:
            await trio.sleep_forever()
        if self.answer:
            await self._reply(near, self.answer)
        return bool(self.answer)

    async def _join(self, near: Near, address: str) -> None:
        async with await connect(address) as far, trio.open_nursery() as nursery:

            async def pass_on(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    async for data in source:
                        await sink.send_all(data)
                nursery.cancel_scope.cancel()

            nursery.start_soon(pass_on, near, far)
            nursery.start_soon(pass_on, far, near)

    def _challenge(self, head: bytes, address: str) -> str | None:
        """Return the challenge that `head` has to be answered with; None where all is right."""
        if not self.user:
            return None
        if not self.digest:
            pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            right = f"\r\nProxy-Authorization: Basic {pair}\r\n".encode() in head
            return None if right else 'Basic realm="proxy"'
        nonce = f"nonce{self.stale}"
        challenge = f'Digest realm="proxy", nonce="{nonce}", qop="auth", algorithm={self.digest}'
        pairs = re.findall(r'(\w+)="?([^",\r]*)"?', head.decode().partition(" Digest ")[2])
        given = dict(pairs[:10])
        if not given:
            return challenge

        def hashed(*words: str) -> str:
            name = self.digest.replace("-", "").lower()
            return hashlib.new(name, ":".join(words).encode()).hexdigest()

        expected = hashed(
            hashed(self.user, "proxy", self.password),
            *(nonce, given["nc"], given["cnonce"], "auth"),
            hashed("CONNECT", address),
        )
        if given["response"] != expected or given["uri"] != address:
            return challenge
        if not self.stale:
            return None
        self.stale -= 1
        return challenge.replace(nonce, f"nonce{self.stale}") + ", stale=true"

    async def serve_http(self, stream: trio.SocketStream) -> None:
        """Serve a CONNECT, or several where the connection stays open."""
        near: Near = stream
        if self.tls is not None:
            near = trio.SSLStream(stream, self.tls, server_side=True)
        self.connections += 1
        while True:
            head = b""
            while b"\r\n\r\n" not in head:
                if not (data := await near.receive_some()):
                    return
                head += data
            self.heads.append(head)
            address = head.split(b" ")[1].decode()
            self.asked.append(address)
            if await self._misbehaves(near):
                return
            if (challenge := self._challenge(head, address)) is None:
                break
            answer = f"HTTP/1.1 407 No\r\nProxy-Authenticate: {challenge}\r\n".encode()
            if self.page is None:
                await self._reply(near, answer + b"\r\n")
                return
            answer += b"Content-Length: %d\r\n\r\n" % len(self.page)
            await self._reply(near, answer + self.page)
            if self.gone:
                return
        await self._reply(near, b"HTTP/1.1 200 Connection established\r\n\r\n" + self.early)
        await self._join(near, address)

    async def serve_socks(self, near: trio.SocketStream) -> None:
        """Serve one SOCKS5 CONNECT to a name or an IPv4 address."""
        _, count = await receive_exactly(near, 2)
        methods = await receive_exactly(near, count)
        if await self._misbehaves(near):
            return
        if self.user:
            await self._reply(near, b"\x05\x02" if 2 in methods else b"\x05\xff")
            if 2 not in methods:
                return
            _, size = await receive_exactly(near, 2)
            user = await receive_exactly(near, size)
            (size,) = await receive_exactly(near, 1)
            password = await receive_exactly(near, size)
            right = (user, password) == (self.user.encode(), self.password.encode())
            await self._reply(near, b"\x01\x00" if right else b"\x01\x01")
            if not right:
                return
        else:
            await self._reply(near, b"\x05\x00")
        _, _, _, kind = await receive_exactly(near, 4)
        if kind == 3:
            (size,) = await receive_exactly(near, 1)
            host = (await receive_exactly(near, size)).decode()
        else:
            host = ".".join(map(str, await receive_exactly(near, 4)))
        port = int.from_bytes(await receive_exactly(near, 2), "big")
        self.asked.append(f"{host}:{port}")
        try:
            async with await connect(f"{host}:{port}"):
                pass
        except OSError:
            await self._reply(near, b"\x05\x05\x00\x01" + bytes(6))
            return
        await self._reply(near, b"\x05\x00\x00\x01" + bytes(6) + self.early)
        await self._join(near, f"{host}:{port}")


@contextlib.asynccontextmanager
async def running_proxy(*, socks: bool = False, **behaviour: object) -> AsyncIterator[Proxy]:
    """Run a proxy."""
    proxy = Proxy(**behaviour)  # type: ignore[arg-type]
    async with listening(proxy.serve_socks if socks else proxy.serve_http) as address:
        proxy.address = address
        yield proxy
