"""SOCKS 5: a client's handshake, a server's answers, and the header of a datagram."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.errors import ProtocolError
from cotun_trio.protocol.addresses import canonical_host
from cotun_trio.protocol.proxy_request import Request
from cotun_trio.protocol.socks5 import (
    Answer,
    ReplyReader,
    Socks5Handshake,
    UdpHeader,
    reply,
    request,
)
from tests.fuzz.oracle import Work, check_text, failed, same_however_cut

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuzz.oracle import Feed

LONGEST = 1024
_LOGIN = ("u", "p")
_MOST_SENT = 2 + 2 + 10
"""Bytes to a client before its request: a selection, a verdict, and perhaps a refusal."""


def run(data: bytes) -> None:
    """The first byte says what the rest is read as."""
    which, stream = data[:1] or b"\0", data[1:]
    with Work(at_most=5000 + 100 * len(stream)):
        match which[0] % 4:
            case 0:
                _check_handshake(stream, None)
            case 1:
                _check_handshake(stream, _LOGIN)
            case 2:
                _check_reply(stream)
            case _:
                _check_datagram(stream)


def _once(reader: Socks5Handshake | ReplyReader) -> Feed:
    """Return what feeds `reader` up to its message, and gives that and what came behind it."""
    result: object = None

    def feed(piece: bytes) -> Iterator[object]:
        nonlocal result
        if result is not None:
            return
        result = reader.feed(piece)
        assert len(reader._buffer) < 1024 or result is not None
        if result is not None:
            yield result

    return feed


def _check_handshake(stream: bytes, login: tuple[str, str] | None) -> None:
    sent: list[bytes] = []

    def make() -> Feed:
        handshake = Socks5Handshake(login)
        feed = _once(handshake)

        def feed_and_send(piece: bytes) -> Iterator[object]:
            try:
                yield from feed(piece)
            finally:
                sent[-1] += handshake.take_out()

        sent.append(b"")
        return feed_and_send

    found = same_however_cut(make, stream)
    assert len(set(sent)) == 1, f"what is sent depends on the cuts: {sent}"
    assert len(sent[0]) <= _MOST_SENT
    if found and not failed(found):
        (asked,) = found
        assert isinstance(asked, Request)
        assert asked.raw in stream
        assert asked.address.isprintable()
        _check_raw(asked)


def _check_raw(asked: Request) -> None:
    """Check that both what came and what we make of it lead to the same place elsewhere."""
    made = request(asked.command, asked.host, asked.port)
    for raw in (asked.raw, made):
        again = Socks5Handshake().feed(b"\x05\x01\x00" + raw)
        assert again is not None
        assert (again.command, again.port) == (asked.command, asked.port)
        assert _place(again.host) == _place(asked.host)


def _place(host: str) -> str:
    return canonical_host(host).partition("%")[0]  # a zone has no place in a packed address


def _check_reply(stream: bytes) -> None:
    found = same_however_cut(lambda: _once(ReplyReader()), stream)
    if found and not failed(found):
        (answer,) = found
        assert isinstance(answer, Answer)
        made = reply(answer.code, answer.host, answer.port)
        again = ReplyReader().feed(b"\x05\x00" + made)
        assert again is not None
        assert (again.code, again.port) == (answer.code, answer.port)
        assert _place(again.host) == _place(answer.host)


def _check_datagram(stream: bytes) -> None:
    try:
        header, payload = UdpHeader.unpack(stream)
    except ProtocolError as error:
        check_text(error)
        return
    assert stream.endswith(payload)
    again, same = UdpHeader.unpack(header.pack(payload))
    assert same == payload
    assert (_place(again.host), again.port) == (_place(header.host), header.port)
