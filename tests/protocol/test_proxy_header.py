"""PROXY headers: written, read whole and in pieces, and broken; another reader knows better."""

import ipaddress
import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cotun_trio.errors import ProtocolError
from cotun_trio.protocol.endpoints import Endpoint, Endpoints
from cotun_trio.protocol.proxy_header import (
    MAX_BINARY,
    MAX_LINE,
    VERSIONS,
    HeaderReader,
    ProxyHeader,
    proxy_header,
)
from tests.support.proxy_header import SIGNATURE, Wrong, expected, pair_of

V4 = Endpoints(Endpoint("198.51.100.7", 56324), Endpoint("203.0.113.1", 443))
V6 = Endpoints(Endpoint("2001:db8::7", 1), Endpoint("::1", 65535))
MIXED = Endpoints(Endpoint("198.51.100.7", 56324), Endpoint("::1", 443))
LINE_4 = b"PROXY TCP4 198.51.100.7 203.0.113.1 56324 443\r\n"
LINE_6 = b"PROXY TCP6 2001:db8::7 ::1 1 65535\r\n"
BINARY_4 = (
    SIGNATURE + b"\x21\x11\0\x0c" + bytes([198, 51, 100, 7, 203, 0, 113, 1]) + b"\xdc\4\1\xbb"
)


def binary(command: int, kind: int, body: bytes = b"") -> bytes:
    """Return a header of version 2."""
    return SIGNATURE + bytes((command, kind)) + len(body).to_bytes(2) + body


def read(data: bytes) -> tuple[ProxyHeader | None, bytes]:
    """Return the header in `data`, and the bytes behind it."""
    reader = HeaderReader()
    return reader.feed(data), reader.rest


def test_both_versions_are_written_as_the_specification_has_them() -> None:
    assert proxy_header("v1", V4) == LINE_4
    assert proxy_header("v2", V4) == BINARY_4
    assert proxy_header("v1", None) == b"PROXY UNKNOWN\r\n"
    assert proxy_header("v2", None) == binary(0x20, 0)
    assert proxy_header("v1", V6) == LINE_6
    mapped = b"0000:0000:0000:0000:0000:ffff:c633:6407"
    assert proxy_header("v1", MIXED) == b"PROXY TCP6 " + mapped + b" ::1 56324 443\r\n"
    assert proxy_header("v2", V6)[12:16] == b"\x21\x21\0\x24"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("endpoints", [V4, V6, MIXED, None])
def test_a_written_header_is_read_again(version: str, endpoints: Endpoints | None) -> None:
    written = proxy_header(version, endpoints)
    assert read(written + b"GET /") == (ProxyHeader(endpoints), b"GET /")
    assert expected(written) == (pair_of(endpoints), len(written))
    assert len(written) <= 536  # the smallest segment of TCP


@pytest.mark.parametrize("data", [LINE_4, BINARY_4, proxy_header("v1", V6), binary(0x20, 0, b"x")])
def test_it_may_come_in_any_pieces(data: bytes) -> None:
    whole = read(data)[0]
    for size in range(len(data)):
        assert read(data[:size])[0] is None
    for cut in range(len(data) + 1):
        reader = HeaderReader()
        first = reader.feed(data[:cut])
        assert (first or reader.feed(data[cut:] + b"more")) == whole
        assert reader.rest == (b"" if cut == len(data) else b"more")
    reader = HeaderReader()
    found = [reader.feed(data[at : at + 1]) for at in range(len(data))]
    assert found == [None] * (len(data) - 1) + [whole]


@pytest.mark.parametrize(
    ("data", "endpoints"),
    [
        (b"PROXY UNKNOWN ffff::1 anything\0\xff at all\r\n", None),
        (b"PROXY UNKNOWN \r\n", None),
        (binary(0x20, 0x11, BINARY_4[16:]), None),  # LOCAL: the block does not count
        (binary(0x20, 0xFF), None),
        (binary(0x21, 0x00), None),
        (binary(0x21, 0x31, bytes(216)), None),
        (binary(0x21, 0x12, bytes(12)), None),
        # TLVs, sound and not
        (binary(0x21, 0x11, BINARY_4[16:] + b"\x03\0\4abcd"), V4),
        (binary(0x21, 0x11, BINARY_4[16:] + b"\x03\xff"), V4),
        (binary(0x21, 0x11, BINARY_4[16:] + bytes(MAX_BINARY - 28)), V4),
        (
            b"PROXY TCP6 ::ffff:198.51.100.7 ::FFFF:cb00:7101 56324 443\r\n",
            V4,
        ),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_all_forms_of_the_specification_are_read(data: bytes, endpoints: Endpoints | None) -> None:
    assert read(data + b"\r\n") == (ProxyHeader(endpoints), b"\r\n")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"P ",
        b"proxy",
        b"\r\n\r\n\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n" + b" " * MAX_LINE,
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
        b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
        b"PROXY TCP4 1.2.3.04 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 ::1 ::2 1 2\r\n",
        b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n",
        b"PROXY TCP6 12345::1 ::2 1 2\r\n",
        b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY \r\n",
        b"PROXY UNKNOWN " + b"x" * MAX_LINE + b"\r\n",
        binary(0x11, 0x11, bytes(12)),
        binary(0x22, 0x11, bytes(12)),
        binary(0x21, 0x13, bytes(12)),
        binary(0x21, 0x01, bytes(12)),
        binary(0x21, 0x10, bytes(12)),
        binary(0x21, 0x41, bytes(300)),
        binary(0x21, 0x11, bytes(11)),
        binary(0x21, 0x21, bytes(35)),
        binary(0x21, 0x31, bytes(215)),
        binary(0x20, 0x00, bytes(MAX_BINARY - 15)),
    ],
    ids=lambda data: ascii(data[:40]),
)
def test_all_else_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="PROXY") as caught:
        read(data)
    assert str(caught.value).isprintable()
    with pytest.raises(Wrong):
        expected(data)


def test_it_is_refused_as_soon_as_that_is_certain() -> None:
    reader = HeaderReader()
    reader.feed(b"PRO")
    with pytest.raises(ProtocolError):
        reader.feed(b"G")
    reader = HeaderReader()
    assert reader.feed(b"PROXY TCP4 " + b"1" * (MAX_LINE - 12)) is None
    with pytest.raises(ProtocolError):
        reader.feed(b"1")
    with pytest.raises(ProtocolError):
        HeaderReader().feed(binary(0x21, 0x11, bytes(12))[:12] + b"\x21\x11\xff\xff")


def check(data: bytes) -> None:
    """Check that `data` is refused, or read as another reader reads it."""
    try:
        right = expected(data)
    except Wrong:
        with pytest.raises(ProtocolError):
            read(data)
        return
    header, rest = read(data)
    if right is None:
        assert header is None
        return
    assert header is not None
    assert pair_of(header.endpoints) == right[0]
    assert rest == data[right[1] :]


@pytest.mark.parametrize(
    "data",
    [
        *(proxy_header(v, e) for v in VERSIONS for e in (V4, V6, None)),
        binary(0x21, 0x31, bytes(216)),
    ],
    ids=lambda data: ascii(data[:20]),
)
def test_with_any_bit_flipped_it_is_refused_or_right(data: bytes) -> None:
    for at, bit in itertools.product(range(len(data)), range(8)):
        broken = bytearray(data)
        broken[at] ^= 1 << bit
        check(bytes(broken) + b"PROXY")


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
ENDS = st.builds(Endpoint.of, ADDRESSES, st.integers(0, 65535))


@given(ends=st.builds(Endpoints, ENDS, ENDS), version=st.sampled_from(VERSIONS), rest=st.binary())
@example(
    ends=Endpoints(
        Endpoint.of(ipaddress.IPv6Address("::ffff:1.2.3.4"), 0), Endpoint("255.255.255.255", 1)
    ),
    version="v1",
    rest=b"\r\n",
)
def test_any_addresses_come_through(ends: Endpoints, version: str, rest: bytes) -> None:
    written = proxy_header(version, ends)
    assert read(written + rest) == (ProxyHeader(ends), rest)
    check(written + rest)


@given(
    data=st.binary(max_size=300),
    front=st.sampled_from([b"", b"PROXY TCP4 1.", b"PROXY TCP6 ", SIGNATURE, SIGNATURE + b"\x21"]),
)
def test_nothing_else_is_ever_taken(data: bytes, front: bytes) -> None:
    check(front + data)
