"""A listener for several protocols: which one it is, and that it does not matter how it is cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.protocol.proxy_handshake import ProxyHandshake
from cotun_trio.protocol.proxy_request import Reply, RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable

ME = ("me", "secret")
SOCKS5 = b"\x05\x01\x00\x05\x01\x00\x03\x0bexample.com\x01\xbb"
SOCKS4 = b"\x04\x01\x01\xbb\x00\x00\x00\x01me\x00example.com\x00"
HTTP = b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n"
KNOWN = [SOCKS5, SOCKS4, HTTP, HTTP[:-2] + b"Proxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n"]


@pytest.mark.parametrize(
    ("request_", "sent", "yes"),
    [
        (SOCKS5, b"\x05\x00", b"\x05\x00\x00\x01"),
        (SOCKS4, b"", b"\x00\x5a"),
        (HTTP, b"", b"HTTP/1.1 200 "),
    ],
    ids=["socks5", "socks4", "http"],
)
def test_every_protocol_leads_to_the_same_request(request_: bytes, sent: bytes, yes: bytes) -> None:
    server = ProxyHandshake()
    assert (server.rest, server.take_out()) == (b"", b"")
    wanted = server.feed(request_ + b"early")
    assert wanted is not None
    assert (wanted.address, wanted.raw) == ("example.com:443", SOCKS5[3:])
    assert (server.take_out(), server.rest) == (sent, b"early")
    assert server.reply(Reply.SUCCEEDED).startswith(yes)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [(SOCKS5, b"\x05\xff"), (SOCKS4, b"\x00\x5b"), (HTTP, b"HTTP/1.1 407 ")],
    ids=["socks5", "socks4", "http"],
)
def test_a_password_is_asked_for_in_every_protocol(request_: bytes, answer: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        ProxyHandshake(ME).feed(request_)
    assert caught.value.reply.startswith(answer)


@pytest.mark.parametrize(
    ("data", "told"),
    [(b"\x16\x03\x01", "TLS"), (b"\0", "first byte is 0"), (b"get /", "first byte is 103")],
)
def test_another_protocol_is_named_and_gets_no_answer(data: bytes, told: str) -> None:
    server = ProxyHandshake()
    with pytest.raises(RequestError, match=told) as caught:
        server.feed(data)
    assert server.take_out() + caught.value.reply == b""


def outcome(server: ProxyHandshake, pieces: Iterable[bytes]) -> tuple[object, bytes, bytes, str]:
    """Return the request, what is behind it, everything that was sent, and what is wrong."""
    wanted, rest, last, wrong = None, b"", b"", ""
    for piece in pieces:
        if wanted is not None or wrong:
            rest += piece
            continue
        try:
            wanted = server.feed(piece)
        except RequestError as error:
            last, wrong = error.reply, str(error)
    assert wrong.isprintable()
    # After an error, nobody looks at what follows.
    return wanted, b"" if wrong else server.rest + rest, server.take_out() + last, wrong


@given(
    st.sampled_from([None, ME]),
    st.sampled_from(KNOWN),
    st.integers(0, 100),
    st.binary(max_size=40),
    st.lists(st.integers(0, 150), max_size=4),
)
def test_what_comes_does_not_depend_on_the_cuts(
    credentials: tuple[str, str] | None, start: bytes, kept: int, end: bytes, cuts: list[int]
) -> None:
    data = start[:kept] + end or b"\0"
    whole = outcome(ProxyHandshake(credentials), [data])
    assert whole == outcome(ProxyHandshake(credentials), (bytes([byte]) for byte in data))
    places = sorted({0, *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in zip(places, [*places[1:], len(data)], strict=True)]
    assert whole == outcome(ProxyHandshake(credentials), pieces)
