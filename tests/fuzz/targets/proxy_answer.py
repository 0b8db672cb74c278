"""What an HTTP proxy answers to a CONNECT."""

from __future__ import annotations

import trio

from cotun_trio.errors import ConnectionLost
from cotun_trio.net import proxy
from cotun_trio.net.proxy import MAX_HEAD
from cotun_trio.protocol.proxy_url import ProxyUrl
from tests.fuzz.memory_transport import MemoryTransport
from tests.fuzz.oracle import Work, check_text, ways_to_cut

LONGEST = MAX_HEAD + 1024
WORDS = (
    b"HTTP/1.1 200 ",
    b"HTTP/1.0 407 ",
    b"HTTP/1.1 101 ",
    b"HTTP/1.1 100 \r\n\r\n",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Upgrade: ",
    b"\r\n\r\n",
)
_PROXY = ProxyUrl("http", "proxy.example.com", 3128, "user", "password")


def run(data: bytes) -> None:
    """Read `data` as the answer: what is behind it is not lost, however it is cut."""
    results = []
    for pieces in ways_to_cut(data):
        with Work(at_most=60_000 + 400 * len(data)):
            results.append(_ask(pieces))
    assert results[0] == results[1] == results[2], results
    if isinstance(results[0], bytes):
        assert data.endswith(results[0])


def _ask(pieces: list[bytes]) -> object:
    """Return what came behind the answer, or the kind of the error."""
    transport = MemoryTransport(pieces)

    async def main() -> bytes:
        return await proxy._ask(transport, _PROXY, "example.com:80")  # type: ignore[arg-type]

    try:
        return trio.run(main) + transport.left()
    except ConnectionLost as error:
        check_text(error)
        return type(error)
