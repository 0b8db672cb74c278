"""SOCKS 4 and 4a as transcripts."""

from __future__ import annotations

import pytest

from cotun_trio.protocol.proxy_request import Command, Reply, Request
from cotun_trio.protocol.socks4 import Socks4Handshake
from cotun_trio.protocol.socks5 import SocksError, request

REJECTED = b"\x00\x5b\x00\x00\x00\x00\x00\x00"


@pytest.mark.parametrize(
    ("raw", "host", "port"),
    [
        (b"\x04\x01\x00\x50\x01\x02\x03\x04\x00", "1.2.3.4", 80),
        (b"\x04\x01\x01\xbb\x7f\x00\x00\x01me\x00", "127.0.0.1", 443),
        (b"\x04\x01\x00\x01\x00\x00\x00\x00\x00", "0.0.0.0", 1),
        (b"\x04\x01\x00\x50\x00\x00\x00\x01me\x00example.com\x00", "example.com", 80),
        (b"\x04\x01\xff\xff\x00\x00\x00\xff\x00m\xc3\xbc.com\x00", "mü.com", 65535),
        (b"\x04\x01\x00\x50\x00\x00\x00\x01\x00::1\x00", "::1", 80),
        (b"\x04\x01\x00\x50\x00\x00\x00\x01" + b"u" * 255 + b"\x00a\x00", "a", 80),
    ],
    ids=ascii,
)
def test_a_request_has_an_address_or_a_name_and_a_port(raw: bytes, host: str, port: int) -> None:
    wanted = Request(Command.CONNECT, host, port, request(Command.CONNECT, host, port))
    for behind in (b"", b"\0early"):
        server = Socks4Handshake()
        assert server.feed(raw + behind) == wanted
        assert (server.rest, server.take_out()) == (behind, b"")
    server = Socks4Handshake()
    assert [server.feed(raw[i : i + 1]) for i in range(len(raw))][-2:] == [None, wanted]


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"\x04\x02\x00\x50\x01\x02\x03\x04", "command 2 of SOCKS 4, and only CONNECT"),
        (b"\x04\x00\x00\x50\x01\x02\x03\x04", "command 0"),
        (b"\x04\x01\x00\x00\x01\x02\x03\x04\x00", "port 0"),
        (b"\x04\x01\x00\x50\x00\x00\x00\x01\x00\x00", "empty"),
        (b"\x04\x01\x00\x50\x00\x00\x00\x01\x00a b\x00", "not a host name"),
        (b"\x04\x01\x00\x50\x00\x00\x00\x01\x00a\nb\x00", "not a host name"),
        (b"\x04\x01\x00\x50\x00\x00\x00\x01\x00127.1\x00", "not a host name"),
        (b"\x04\x01\x00\x50\x00\x00\x00\x01\x00\xff\x00", "not UTF-8"),
        (b"\x04\x01\x00\x50\x00\x00\x00\x01\x00" + b"a." * 127 + b"\x00", "too long"),
        (b"\x04\x01\x00\x50\x01\x02\x03\x04" + b"u" * 256, "the user has over 255 bytes"),
        (b"\x04\x01\x00\x50\x00\x00\x00\x01\x00" + b"a" * 256, "the name of the host has over"),
    ],
    ids=ascii,
)
def test_a_request_that_cannot_be_served_is_rejected(raw: bytes, told: str) -> None:
    server = Socks4Handshake()
    assert all(server.feed(raw[i : i + 1]) is None for i in range(len(raw) - 1))
    with pytest.raises(SocksError, match=told) as caught:
        server.feed(raw[-1:])
    assert caught.value.reply == REJECTED
    assert str(caught.value).isprintable()


def test_a_listener_with_a_password_rejects_everybody_at_once() -> None:
    with pytest.raises(SocksError, match="SOCKS 4 has none") as caught:
        Socks4Handshake(refused=True).feed(b"\x04")
    assert caught.value.reply == REJECTED


@pytest.mark.parametrize("code", list(Reply))
def test_a_reply_says_yes_or_no(code: Reply) -> None:
    verdict = b"\x5a" if code is Reply.SUCCEEDED else b"\x5b"
    server = Socks4Handshake()
    assert server.reply(code) == b"\0" + verdict + bytes(6)
    assert server.reply(code, "1.2.3.4", 80) == b"\0" + verdict + b"\x00\x50\x01\x02\x03\x04"
    for host in ("::1", "example.com"):
        assert server.reply(code, host, 80) == b"\0" + verdict + bytes(6)
