"""The request of a proxy's client, by SOCKS 5, SOCKS 4 or HTTP's CONNECT."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11

from cotun_trio.protocol.http_connect import MAX_HEAD
from cotun_trio.protocol.proxy_handshake import ProxyHandshake
from cotun_trio.protocol.proxy_request import Command, Reply, RequestError
from cotun_trio.protocol.socks5 import Socks5Handshake, greeting
from tests.fuzz.oracle import Work, check_text, ways_to_cut

if TYPE_CHECKING:
    from cotun_trio.protocol.proxy_request import Request

LONGEST = MAX_HEAD + 1024
WORDS = (
    b"CONNECT ",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b"Host: h\r\n",
    b"Proxy-Authorization: Basic dTpw\r\n",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n",
    b"\x04\x01\x00\x50\x00\x00\x00\x01",
    b"\x05\x01\x00\x05\x01\x00\x03",
    b":443",
    b"\r\n\r\n",
)
_LOGIN = ("u", "p")


def run(data: bytes) -> None:
    """The first byte says whether there is a login; the rest is what a client sends."""
    login, stream = _LOGIN if data[:1] == b"\1" else None, data[1:]
    results = []
    for pieces in ways_to_cut(stream):
        with Work(at_most=60_000 + 400 * len(stream)):
            results.append(_talk(login, [piece for piece in pieces if piece]))
    assert results[0] == results[1] == results[2], results


def _talk(login: tuple[str, str] | None, pieces: list[bytes]) -> tuple[object, ...]:
    """Return what comes of `pieces`, and all that is sent."""
    handshake, sent = ProxyHandshake(login), b""
    for number, piece in enumerate(pieces):
        try:
            wanted = handshake.feed(piece)
        except RequestError as error:
            check_text(error)
            sent += handshake.take_out() + error.reply
            _check_sent(sent)
            return str(error), sent
        sent += handshake.take_out()
        if wanted is not None:
            behind = handshake.rest + b"".join(pieces[number + 1 :])
            assert b"".join(pieces).endswith(behind)
            _check_request(wanted)
            return wanted, behind, sent, *map(handshake.reply, Reply)
    return None, sent


def _check_sent(sent: bytes) -> None:
    """Check that HTTP is answered by one whole answer that ends the connection."""
    if not sent.startswith(b"HTTP/"):
        assert len(sent) < 20
        return
    reader = h11.Connection(h11.CLIENT)
    head_only = b"\r\nAllow: CONNECT\r\n" in sent and sent.endswith(b"\r\n\r\n")
    method = "HEAD" if head_only else "CONNECT"
    reader.send(h11.Request(method=method, target="a:1", headers=[("Host", "a:1")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(sent)
    head = reader.next_event()
    assert isinstance(head, h11.Response)
    assert head.status_code >= 400
    while isinstance(event := reader.next_event(), h11.Data):
        pass
    assert isinstance(event, h11.EndOfMessage)
    assert reader.trailing_data[0] == b""
    assert reader.their_state is h11.MUST_CLOSE


def _check_request(wanted: Request) -> None:
    """Check that the exit, which is told by SOCKS 5, understands the same."""
    assert wanted.address.isprintable()
    again = Socks5Handshake().feed(greeting() + wanted.raw)
    assert again is not None
    assert (again.command, again.port) == (wanted.command, wanted.port)
    if wanted.command is Command.CONNECT:
        assert wanted.port
