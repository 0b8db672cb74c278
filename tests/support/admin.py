"""Requests to an admin interface, in the test's own Trio run."""

from __future__ import annotations

import json
from typing import Any

import attrs
import trio

from tests.support.targets import split_address


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


async def send(address: str, data: bytes) -> bytes:
    """Send bytes to ``unix:/path`` or ``host:port``; return all that comes back."""
    stream = (
        await trio.open_unix_socket(address.removeprefix("unix:"))
        if address.startswith("unix:")
        else await trio.open_tcp_stream(*split_address(address))
    )
    async with stream:
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
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [] if token is None else [f"Authorization: Bearer {token}"]
    request = "\r\n".join([*lines, "", ""]).encode("latin-1")
    found = await send(address, request + (body or b""))
    head, _, content = found.decode().partition("\r\n\r\n")
    first, *rest = head.split("\r\n")
    pairs = (line.partition(": ") for line in rest)
    return Answer(int(first.split()[1]), {key.lower(): value for key, _, value in pairs}, content)
