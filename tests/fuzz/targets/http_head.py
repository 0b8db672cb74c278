"""The HTTP requests that a server reads before anything else, and what it makes of an upgrade."""

from __future__ import annotations

import attrs
import h11
import trio

from cotun_trio.errors import ConnectionLost
from cotun_trio.http.forwarding import Origin, request_headers
from cotun_trio.http.front import MAX_HEAD, Front, HeadError, Request, upgrade_head, wanted_dialect
from cotun_trio.protocol.dialect import CHISEL
from tests.fuzz.memory_transport import MemoryTransport
from tests.fuzz.oracle import Work, check_text, ways_to_cut

LONGEST = MAX_HEAD + 1024
WORDS = (
    b"Host: h\r\n",
    b"Upgrade: websocket\r\n",
    b"Connection: upgrade\r\n",
    b"Sec-WebSocket-Protocol: chisel-v3\r\n",
    b"Sec-WebSocket-Key: ",
    b"Sec-WebSocket-Version: 13\r\n",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n",
    b"X-Forwarded-For: ",
    b"Forwarded: ",
    b"TE: trailers\r\n",
    b"Expect: 100-continue\r\n",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b"http://",
    b"CONNECT ",
    b"OPTIONS *",
    b"\r\n\r\n",
)
_LINES = 7
"""The lines of the head that trio-websocket is shown, at the most."""


def run(data: bytes) -> None:
    """Read `data` as what a client sends first."""
    results = []
    for pieces in ways_to_cut(data):
        with Work(at_most=60_000 + 400 * len(data)):
            results.append(_read(data, pieces))
    assert results[0] == results[1] == results[2], results
    result = results[0]
    if isinstance(result, Request):
        _check_upgrade(result)
        _check_forwarding(result)


def _read(data: bytes, pieces: list[bytes]) -> object:
    """Return the request, without what came with it, or the kind of the error."""
    transport = MemoryTransport(pieces)
    front = Front(transport)  # type: ignore[arg-type]

    async def main() -> Request:
        return await front.next_request()

    try:
        request = trio.run(main)
    except HeadError as error:
        check_text(error)
        return "HeadError", error.status
    except ConnectionLost as error:
        return str(error)
    left = request.early + transport.left()
    assert data.endswith(left)
    assert len(data) - len(left) <= MAX_HEAD
    return attrs.evolve(request, early=b"")


def _check_upgrade(request: Request) -> None:
    """Check that what trio-websocket is shown is one head of a few lines, which h11 takes."""
    assert request.path.startswith(b"/") or request.path in (
        b"*",  # of OPTIONS, also for a URI without a path
        request.target.partition(b"?")[0],  # of CONNECT
    )
    wanted_dialect(request)
    try:
        head = upgrade_head(request, CHISEL)
    except HeadError:
        return
    assert head.isascii()
    assert len(head) <= MAX_HEAD + 200
    assert head.count(b"\r\n") <= _LINES + 1
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(head)
    event = reader.next_event()
    assert isinstance(event, h11.Request)
    assert reader.trailing_data[0] == b""


def _check_forwarding(request: Request) -> None:
    """Check that a back end gets a head that says the same of the body, and ours of the rest."""
    origin = Origin("192.0.2.1", tls=True)
    headers = request_headers(request.headers, origin, "back:80", upgrade=False)
    writer = h11.Connection(h11.CLIENT)
    try:
        event = h11.Request(method=request.method, target=request.target, headers=headers)
        head = writer.send(event)
    except h11.LocalProtocolError as error:
        raise AssertionError(f"a request that cannot be passed on: {error}") from error
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(head or b"")
    again = reader.next_event()
    assert isinstance(again, h11.Request)
    assert (again.method, again.target) == (request.method, request.target)
    for name in (b"content-length",):
        assert _all(again.headers, name) == _all(request.headers, name)
    assert _all(again.headers, b"host") == [b"back:80"]
    assert _all(again.headers, b"x-forwarded-for") == [b"192.0.2.1"]


def _all(headers: object, name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]  # type: ignore[attr-defined]
