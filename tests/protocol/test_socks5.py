"""SOCKS 5 as transcripts: what each side sends, and what it comes to.

The bytes are written out from RFC 1928 and RFC 1929; those of real clients are marked.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.errors import ProtocolError
from cotun_trio.protocol.proxy_request import Command, Reply, Request
from cotun_trio.protocol.socks5 import (
    Answer,
    ReplyReader,
    Socks5Handshake,
    SocksError,
    UdpHeader,
    greeting,
    reply,
    request,
)

ME = ("me", "a:secret")
HELLO = b"\x05\x01\x00"
HELLO_WITH_LOGIN = b"\x05\x02\x00\x02"
LOGIN = b"\x01\x02me\x08a:secret"
CONNECT = b"\x05\x01\x00\x03\x0bexample.com\x01\xbb"
FAILURE = b"\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00"

Result = TypeVar("Result")


def whole(feed: Callable[[bytes], Result | None], data: bytes) -> Result | None:
    return feed(data)


def bytewise(feed: Callable[[bytes], Result | None], data: bytes) -> Result | None:
    """Feed byte by byte; nothing may come before the last."""
    found = None
    for i in range(len(data)):
        assert found is None
        found = feed(data[i : i + 1])
    return found


Feeding = Callable[[Callable[[bytes], Request | None], bytes], Request | None]
in_pieces = pytest.mark.parametrize("feed", [whole, bytewise])


# The listening side


@in_pieces
def test_a_client_without_a_login_gets_to_its_request(feed: Feeding) -> None:
    server = Socks5Handshake()
    assert feed(server.feed, HELLO) is None
    assert server.take_out() == b"\x05\x00"
    wanted = feed(server.feed, CONNECT)
    assert wanted == Request(Command.CONNECT, "example.com", 443, CONNECT)
    assert (server.take_out(), server.rest) == (b"", b"")


@in_pieces
def test_a_client_with_a_login_gets_to_its_request(feed: Feeding) -> None:
    server = Socks5Handshake(ME)
    assert feed(server.feed, HELLO_WITH_LOGIN) is None
    assert server.take_out() == b"\x05\x02"
    assert feed(server.feed, LOGIN) is None
    assert server.take_out() == b"\x01\x00"
    wanted = feed(server.feed, CONNECT)
    assert wanted is not None
    assert wanted.address == "example.com:443"


def test_what_comes_behind_the_request_is_kept() -> None:
    server = Socks5Handshake(ME)
    wanted = server.feed(HELLO_WITH_LOGIN + LOGIN + CONNECT + b"\x05GET /")
    assert wanted is not None
    assert wanted.raw == CONNECT
    assert server.take_out() == b"\x05\x02\x01\x00"
    assert server.take_out() == b""
    assert server.rest == b"\x05GET /"


def test_a_connection_has_only_one_request() -> None:
    server = Socks5Handshake()
    assert server.feed(HELLO + CONNECT)
    with pytest.raises(RuntimeError):
        server.feed(CONNECT)


def test_after_an_error_there_is_nothing_to_feed() -> None:
    server = Socks5Handshake()
    with pytest.raises(SocksError):
        server.feed(b"\x05\x00")
    with pytest.raises(RuntimeError):
        server.feed(HELLO)


@pytest.mark.parametrize(
    ("raw", "command", "address"),
    [
        (b"\x05\x01\x00\x01\x01\x02\x03\x04\x00\x50", Command.CONNECT, "1.2.3.4:80"),
        (b"\x05\x01\x00\x04" + bytes(15) + b"\x01\xff\xff", Command.CONNECT, "[::1]:65535"),
        (b"\x05\x01\x00\x03\x01a\x00\x01", Command.CONNECT, "a:1"),
        (b"\x05\x01\x00\x03\x07m\xc3\xbc.com\x00\x01", Command.CONNECT, "mü.com:1"),
        (b"\x05\x01\x00\x03\x071.2.3.4\x00\x01", Command.CONNECT, "1.2.3.4:1"),
        (b"\x05\x01\x00\x03\x03::1\x00\x01", Command.CONNECT, "[::1]:1"),
        (b"\x05\x01\x00\x03\x05[::1]\x00\x01", Command.CONNECT, "[::1]:1"),
        (b"\x05\x01\xff\x03\x01a\x00\x01", Command.CONNECT, "a:1"),  # reserved, and not looked at
        (b"\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", Command.BIND, "0.0.0.0:0"),
        (b"\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", Command.UDP_ASSOCIATE, "0.0.0.0:0"),
        (b"\x05\x03\x00\x04" + bytes(16) + b"\x00\x35", Command.UDP_ASSOCIATE, "[::]:53"),
    ],
    ids=ascii,
)
def test_a_request_has_a_command_a_host_and_a_port(
    raw: bytes, command: Command, address: str
) -> None:
    wanted = Socks5Handshake().feed(HELLO + raw)
    assert wanted is not None
    assert (wanted.command, wanted.address, wanted.raw) == (command, address, raw)


@pytest.mark.parametrize("methods", [b"\x00", b"\x02\x00", b"\x00\x01\x02", bytes(range(255))])
def test_an_acceptable_method_is_taken_wherever_it_stands(methods: bytes) -> None:
    server = Socks5Handshake()
    assert server.feed(bytes([5, len(methods)]) + methods) is None
    assert server.take_out() == b"\x05\x00"


@in_pieces
@pytest.mark.parametrize(
    ("credentials", "methods"),
    [
        (None, b""),
        (None, b"\x02"),
        (None, b"\x01\x02\xff"),
        (ME, b""),
        (ME, b"\x00"),
        (ME, b"\x00\x01\xff"),
    ],
    ids=ascii,
)
def test_without_the_one_acceptable_method_there_is_no_way_in(
    credentials: tuple[str, str] | None, methods: bytes, feed: Feeding
) -> None:
    server = Socks5Handshake(credentials)
    with pytest.raises(SocksError, match="and" if credentials else "without") as caught:
        feed(server.feed, bytes([5, len(methods)]) + methods)
    assert server.take_out() + caught.value.reply == b"\x05\xff"


@in_pieces
@pytest.mark.parametrize(
    "login",
    [
        b"\x01\x02me\x08b:secret",
        b"\x01\x02me\x07a:secre",
        b"\x01\x02me\x09a:secrets",
        b"\x01\x02me\x00",
        b"\x01\x02ME\x08a:secret",
        b"\x01\x00\x08a:secret",
        b"\x01\x00\x00",
        b"\x01\x04me:a\x06secret",
        b"\x01\x02\xff\xfe\x02\xff\xfe",
        b"\x01\xff" + b"u" * 255 + b"\xff" + b"p" * 255,
        b"\x00",
        b"\x05",  # a request without a login
    ],
    ids=ascii,
)
def test_a_wrong_login_is_told_so_and_no_request_is_read(login: bytes, feed: Feeding) -> None:
    server = Socks5Handshake(ME)
    assert server.feed(HELLO_WITH_LOGIN) is None
    with pytest.raises(SocksError) as caught:
        feed(server.feed, login)
    assert server.take_out() + caught.value.reply == b"\x05\x02\x01\x01"


def test_a_pipelined_wrong_login_is_answered_in_order() -> None:
    server = Socks5Handshake(ME)
    with pytest.raises(SocksError) as caught:
        server.feed(HELLO_WITH_LOGIN + b"\x01\x02me\x01x" + CONNECT)
    assert server.take_out() + caught.value.reply == b"\x05\x02\x01\x01"


def test_no_password_gets_into_an_error_or_a_repr() -> None:
    server = Socks5Handshake(("me", "right-secret"))
    with pytest.raises(SocksError, match="wrong user or password for 'm\\\\ne'") as caught:
        server.feed(HELLO_WITH_LOGIN + b"\x01\x03m\ne\x0cwrong-secret")
    assert "secret" not in f"{caught.value}{caught.value!r}{server!r}{vars(caught.value)}"


@pytest.mark.parametrize(
    ("credentials", "login"),
    [
        (("ü", "ß"), b"\x01\x02\xc3\xbc\x02\xc3\x9f"),
        (("u" * 255, "p" * 255), b"\x01\xff" + b"u" * 255 + b"\xff" + b"p" * 255),
    ],
    ids=ascii,
)
def test_a_login_is_compared_as_utf_8_in_full(credentials: tuple[str, str], login: bytes) -> None:
    server = Socks5Handshake(credentials)
    assert server.feed(HELLO_WITH_LOGIN + login) is None
    assert server.take_out() == b"\x05\x02\x01\x00"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\x04\x01\x00\x50\x01\x02\x03\x04me\x00", "SOCKS 4"),
        (b"GET http://example.com/ HTTP/1.1\r\n\r\n", "HTTP"),
        (b"CONNECT example.com:443 HTTP/1.1\r\n\r\n", "HTTP"),
        (b"\x16\x03\x01\x02\x00\x01", "TLS"),
        (b"\x00", "first byte is 0"),
        (b"ssh", "first byte is 115"),
    ],
    ids=ascii,
)
def test_another_protocol_is_named_and_gets_no_answer(data: bytes, told: str) -> None:
    for first in (data, data[:1]):
        server = Socks5Handshake()
        with pytest.raises(SocksError, match=told) as caught:
            server.feed(first)
        assert (server.take_out(), caught.value.reply) == (b"", b"")


@in_pieces
@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"\x04\x01\x00", 1),
        (b"\x05\x00\x00", 7),
        (b"\x05\x04\x00", 7),
        (b"\x05\xff\x00", 7),
        (b"\x05\x01\x00\x00", 8),
        (b"\x05\x01\x00\x02", 8),
        (b"\x05\x02\x00\x05", 8),
        (b"\x05\x01\x00\x03\x00\x00\x50", 1),
        (b"\x05\x01\x00\x03\x03a b\x00\x50", 1),
        (b"\x05\x01\x00\x03\x03a\x00b\x00\x50", 1),
        (b"\x05\x01\x00\x03\x03a\nb\x00\x50", 1),
        (b"\x05\x01\x00\x03\x02\xff\xfe\x00\x50", 1),
        (b"\x05\x01\x00\x03\x04a:80\x00\x50", 1),
        (b"\x05\x01\x00\x03\x05127.1\x00\x50", 1),
        (b"\x05\x01\x00\x03\x06unix:/\x00\x50", 1),
        (b"\x05\x01\x00\x03\xfe" + b"a." * 127 + b"\x00\x50", 1),
        (b"\x05\x01\x00\x03\xff" + b"a" * 255 + b"\x00\x50", 1),
        (b"\x05\x01\x00\x01\x01\x02\x03\x04\x00\x00", 1),
        (b"\x05\x01\x00\x03\x01a\x00\x00", 1),
    ],
    ids=ascii,
)
def test_a_request_that_makes_no_sense_gets_the_reply_that_says_why(
    raw: bytes, code: int, feed: Feeding
) -> None:
    server = Socks5Handshake()
    with pytest.raises(SocksError, match=r"^SOCKS: ") as caught:
        feed(server.feed, HELLO + raw)
    assert server.take_out() == b"\x05\x00"
    assert caught.value.reply == bytes([5, code]) + FAILURE[2:]
    assert str(caught.value).isprintable()


def test_the_longest_name_of_a_host_fits() -> None:
    name = ".".join(["a" * 49] * 5 + ["abc"])
    wanted = Socks5Handshake().feed(HELLO + request(Command.CONNECT, name, 80))
    assert wanted is not None
    assert (len(name), wanted.host) == (253, name)


# Requests passed on


@pytest.mark.parametrize(
    ("code", "host", "port", "raw"),
    [
        (Reply.SUCCEEDED, "0.0.0.0", 0, b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"),
        (Reply.SUCCEEDED, "::1", 80, b"\x05\x00\x00\x04" + bytes(15) + b"\x01\x00\x50"),
        (Reply.SUCCEEDED, "a.b", 65535, b"\x05\x00\x00\x03\x03a.b\xff\xff"),
        (Reply.NOT_ALLOWED, "0.0.0.0", 0, b"\x05\x02\x00\x01" + bytes(6)),
        (Reply.ADDRESS_TYPE_NOT_SUPPORTED, "0.0.0.0", 0, b"\x05\x08\x00\x01" + bytes(6)),
    ],
    ids=ascii,
)
def test_a_reply_is_written_and_read(code: Reply, host: str, port: int, raw: bytes) -> None:
    assert reply(code, host, port) == raw
    for feed in (whole, bytewise):
        reader = ReplyReader()
        assert feed(reader.feed, b"\x05\x00" + raw) == Answer(code, host, port)
    reader = ReplyReader()
    assert reader.feed(b"\x05\x00" + raw + b"SSH-2.0") is not None
    assert reader.rest == b"SSH-2.0"


def test_a_reply_without_an_address_has_that_of_nobody() -> None:
    assert reply(Reply.GENERAL_FAILURE) == FAILURE


def test_the_codes_are_those_of_the_rfc() -> None:
    assert [code.name for code in Reply] == [
        *("SUCCEEDED", "GENERAL_FAILURE", "NOT_ALLOWED", "NETWORK_UNREACHABLE"),
        *("HOST_UNREACHABLE", "CONNECTION_REFUSED", "TTL_EXPIRED", "COMMAND_NOT_SUPPORTED"),
        "ADDRESS_TYPE_NOT_SUPPORTED",
    ]
    assert list(Reply) == list(range(9))


@pytest.mark.parametrize(
    "data",
    [
        b"\x05\xff",
        b"\x05\x02",
        b"\x04\x00",
        b"HT",
        b"\x05\x00\x04\x00\x00",
        b"\x05\x00\x05\x09\x00",
        b"\x05\x00\x05\xff\x00",
        b"\x05\x00\x05\x00\x00\x02",
        b"\x05\x00\x05\x00\x00\x03\x02\n\n\x00\x50",
    ],
    ids=ascii,
)
def test_an_answer_that_makes_no_sense_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^SOCKS server: ") as caught:
        ReplyReader().feed(data)
    assert str(caught.value).isprintable()
    assert not isinstance(caught.value, SocksError)  # there is nothing to send to a server


def test_a_request_of_ones_own_is_that_of_any_client() -> None:
    assert greeting() == HELLO
    assert request(Command.CONNECT, "example.com", 443) == CONNECT


def test_a_request_passed_on_is_the_one_that_came_and_so_is_its_answer() -> None:
    near, far, reader = Socks5Handshake(ME), Socks5Handshake(), ReplyReader()
    wanted = near.feed(HELLO_WITH_LOGIN + LOGIN + CONNECT)
    assert wanted is not None
    assert far.feed(greeting() + wanted.raw) == wanted
    answer = reader.feed(far.take_out() + reply(Reply.CONNECTION_REFUSED))
    assert answer is not None
    assert near.reply(answer.code, answer.host, answer.port) == b"\x05\x05" + FAILURE[2:]


def test_the_zone_of_an_address_has_no_place_in_a_message() -> None:
    assert reply(Reply.SUCCEEDED, "fe80::1%eth0", 1) == reply(Reply.SUCCEEDED, "fe80::1", 1)


@pytest.mark.parametrize("name", ["", "a" * 256, "ü" * 128])
def test_a_name_that_does_not_fit_is_not_sent(name: str) -> None:
    with pytest.raises(ValueError):
        request(Command.CONNECT, name, 80)


# Datagrams


@pytest.mark.parametrize(
    ("header", "raw"),
    [
        (UdpHeader("1.2.3.4", 53), b"\0\0\0\x01\x01\x02\x03\x04\x00\x35"),
        (UdpHeader("::1", 53), b"\0\0\0\x04" + bytes(15) + b"\x01\x00\x35"),
        (UdpHeader("example.com", 443), b"\0\0\0\x03\x0bexample.com\x01\xbb"),
    ],
    ids=ascii,
)
def test_a_datagram_has_a_header(header: UdpHeader, raw: bytes) -> None:
    for payload in (b"", b"\0", b"hello" * 1000):
        assert header.pack(payload) == raw + payload
        assert UdpHeader.unpack(raw + payload) == (header, payload)
    for size in range(len(raw)):
        with pytest.raises(ProtocolError, match="no whole header"):
            UdpHeader.unpack(raw[:size])


@pytest.mark.parametrize(
    "raw",
    [
        b"\0\0\x01\x01\x01\x02\x03\x04\x00\x35hello",
        b"\0\0\x80\x01\x01\x02\x03\x04\x00\x35hello",
        b"\0\0\0\x02\x01\x02\x03\x04\x00\x35hello",
        b"\0\0\0\x01\x01\x02\x03\x04\x00\x00hello",
        b"\0\0\0\x03\x00\x00\x35hello",
        b"\0\0\0\x03\x03a\nb\x00\x35hello",
        b"\0\0\0\x03\x01\xff\x00\x35hello",
    ],
    ids=ascii,
)
def test_a_fragment_or_a_datagram_to_nowhere_is_a_protocol_error(raw: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^SOCKS datagram: ") as caught:
        UdpHeader.unpack(raw)
    assert str(caught.value).isprintable()


# Properties

HOSTS = st.one_of(
    st.ip_addresses().map(str),
    st.from_regex(r"[a-z_][a-z0-9_-]{0,60}(\.[a-z_][a-z0-9_-]{0,9}){0,3}", fullmatch=True),
    st.sampled_from(["münchen.de", "пример.рф"]),
)
PORTS = st.integers(1, 65535)


@given(st.sampled_from(Command), HOSTS, PORTS, st.sampled_from(Reply), st.binary(max_size=9))
def test_requests_replies_and_datagrams_are_read_back(
    command: Command, host: str, port: int, code: Reply, rest: bytes
) -> None:
    server, reader = Socks5Handshake(), ReplyReader()
    raw = request(command, host, port)
    assert server.feed(greeting() + raw + rest) == Request(command, host, port, raw)
    raw = reply(code, host, port)
    assert reader.feed(b"\x05\x00" + raw + rest) == Answer(code, host, port)
    assert server.rest == reader.rest == rest
    header = UdpHeader(host, port)
    assert UdpHeader.unpack(header.pack(rest)) == (header, rest)


def outcome(server: Socks5Handshake, pieces: Iterable[bytes]) -> tuple[object, bytes, str]:
    """Return the request, everything that was sent, and what is wrong."""
    wanted, last, wrong = None, b"", ""
    try:
        for piece in pieces:
            if (wanted := server.feed(piece)) is not None:
                break
    except SocksError as error:
        last, wrong = error.reply, str(error)
    assert wrong.isprintable()
    return wanted, server.take_out() + last, wrong


@given(
    st.sampled_from([None, ME]),
    st.sampled_from([b"", HELLO, HELLO_WITH_LOGIN, HELLO_WITH_LOGIN + LOGIN]),
    st.binary() | st.binary(max_size=20).map(lambda tail: CONNECT[:4] + tail),
)
def test_any_bytes_come_to_the_same_in_any_pieces(
    credentials: tuple[str, str] | None, start: bytes, data: bytes
) -> None:
    data = start + data
    pieces = (data[i : i + 1] for i in range(len(data)))
    assert outcome(Socks5Handshake(credentials), [data]) == outcome(
        Socks5Handshake(credentials), pieces
    )


@given(st.binary() | st.binary().map(lambda tail: b"\0\0\0" + tail))
def test_any_datagram_has_a_header_or_is_a_protocol_error_on_one_line(data: bytes) -> None:
    try:
        header, payload = UdpHeader.unpack(data)
    except ProtocolError as error:
        shown = str(error)
    else:
        shown = header.host
        assert UdpHeader.unpack(header.pack(payload)) == (header, payload)
    assert shown.isprintable()
