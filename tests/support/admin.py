"""Requests to an admin interface, in the test's own Trio run."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import attrs
import trio

from cotun_trio.snapshot import FleetFigures, FleetNode, FleetRoute
from tests.support.targets import split_address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


FLEET = FleetFigures(
    name="cotun",
    id="here~1",
    directory="redis://localhost:6379",
    answers=True,
    lease_seconds=9.5,
    epoch=7,
    draining=False,
    nodes=(
        FleetNode(
            id="there~1",
            address="http://10.0.0.2:8080",
            version="1",
            load=3,
            draining=True,
            routes=1,
        ),
    ),
    own_routes=1,
    routes=(FleetRoute(place="tcp/0.0.0.0:80", session=1, user="alice", shared=False, epoch=7),),
    places=1,
    listening=1,
    links=0,
)
"""A fleet as one of its two nodes knows it."""


@attrs.frozen
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    """By their names in lower case."""
    body: str

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


async def dial(address: str) -> trio.SocketStream:
    """Connect to ``unix:/path`` or ``host:port``."""
    if address.startswith("unix:"):
        return await trio.open_unix_socket(address.removeprefix("unix:"))
    return await trio.open_tcp_stream(*split_address(address))


async def send(address: str, data: bytes) -> bytes:
    """Send bytes to ``unix:/path`` or ``host:port``; return all that comes back."""
    async with await dial(address) as stream:
        await stream.send_all(data)
        found = bytearray()
        async for piece in stream:
            found += piece
    return bytes(found)


async def ask(
    address: str,
    path: str,
    *,
    method: str = "GET",
    host: str = "localhost",
    token: str | None = None,
    body: bytes | None = None,
    **headers: str,
) -> Answer:
    """Make a request; `headers` are written with ``_`` for ``-``."""
    if body is not None:
        headers["Content-Length"] = str(len(body))
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    found = await send(address, request(path, method, host, **headers) + (body or b""))
    head, _, content = found.decode().partition("\r\n\r\n")
    first, *rest = head.split("\r\n")
    pairs = (line.partition(": ") for line in rest)
    return Answer(int(first.split()[1]), {key.lower(): value for key, _, value in pairs}, content)


def request(path: str, method: str = "GET", host: str = "localhost", **headers: str) -> bytes:
    """Return the head of a request; see `ask`."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Blocks:
    """The blocks of a stream, each up to an empty line: the head of an answer, then events."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._unread = b""

    async def next(self) -> str:
        """Return the next block; an empty one at the end."""
        while b"\n\n" not in self._unread and (data := await self.stream.receive_some()):
            self._unread += data.replace(b"\r\n", b"\n")
        block, _, self._unread = self._unread.partition(b"\n\n")
        return block.decode()


@contextlib.asynccontextmanager
async def reading(address: str, query: str = "", **headers: str) -> AsyncIterator[Blocks]:
    """Read the events of an interface, from behind the head of its answer on."""
    async with await dial(address) as stream:
        await stream.send_all(request(f"/api/v1/events{query}", **headers))
        blocks = Blocks(stream)
        head = await blocks.next()
        assert head.startswith("HTTP/1.1 200 "), head
        assert "Content-Type: text/event-stream\n" in head
        yield blocks
