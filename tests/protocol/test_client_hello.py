"""ClientHellos: those of a real library, whole, byte by byte, and broken."""

from __future__ import annotations

import itertools
import ssl
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.errors import ProtocolError
from cotun_trio.protocol import client_hello
from cotun_trio.protocol.client_hello import MAX_HELLO, MAX_RECORDS, ClientHello, HelloReader
from tests.fuzz.oracle import Weighed


def hello(name: str | None = "Example.com", protocols: list[str] | None = None) -> bytes:
    """Return what Python's ssl says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(protocols)
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    return out.read()


def read(data: bytes) -> ClientHello | None:
    """Return what comes of `data` in one piece."""
    return HelloReader().feed(data)


def in_records(message: bytes, size: int) -> bytes:
    """Return a handshake message in records that have up to `size` bytes of it each."""
    parts = (message[at : at + size] for at in range(0, len(message), size))
    return b"".join(struct.pack(">BBBH", 22, 3, 1, len(part)) + part for part in parts)


@pytest.mark.parametrize(
    ("name", "protocols", "expected"),
    [
        ("Example.com", ["acme-tls/1"], ClientHello("example.com", (b"acme-tls/1",))),
        ("a.b", ["h2", "http/1.1"], ClientHello("a.b", (b"h2", b"http/1.1"))),
        ("a.b", None, ClientHello("a.b")),
        (None, None, ClientHello()),
        ("127.0.0.1", None, ClientHello()),  # an address is no name to ask for
    ],
)
def test_the_name_and_the_protocols_are_read(
    name: str | None, protocols: list[str] | None, expected: ClientHello
) -> None:
    assert read(hello(name, protocols)) == expected


def test_a_client_hello_is_read_only_when_it_is_whole() -> None:
    data = hello("example.com", ["x"])
    assert all(read(data[:size]) is None for size in range(len(data)))
    assert read(data + b"more") == ClientHello("example.com", (b"x",))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_it_may_be_spread_over_many_records(size: int) -> None:
    message = hello("example.com")[5:]
    # With post-quantum key shares, it has more bytes than `MAX_RECORDS`.
    records = in_records(message[:500], size) + in_records(message[500:], 100)
    assert read(records) == ClientHello("example.com")
    assert read(records[:-1]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"G",
        b"\x17\x03\x03\x00\x01x",
        b"\x16\x02\x00\x00\x01x",
        b"\x16\x02",
        b"\x16\x03\x01\x00\x01\x02",  # the first byte of another handshake message
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",  # another handshake message
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01x",  # cut short inside
    ],
)
def test_bytes_that_are_no_client_hello_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^TLS: "):
        read(data)


def of_size(size: int) -> bytes:
    """Return a ClientHello of `size` bytes, with an extension that nobody knows at its end."""
    rest = size - 4 - 38 - 2 - 4
    extension = struct.pack(">HH", 0xFFFF, rest) + bytes(rest)
    body = bytes(38) + struct.pack(">H", len(extension)) + extension
    return b"\x01" + len(body).to_bytes(3, "big") + body


def test_one_that_is_too_long_is_refused_as_soon_as_that_is_known() -> None:
    assert read(in_records(of_size(MAX_HELLO), 10_000)) == ClientHello()
    with pytest.raises(ProtocolError, match=f"over {MAX_HELLO} bytes"):
        read(in_records(of_size(MAX_HELLO + 1)[:4], 4))


def test_the_number_of_its_records_is_bounded() -> None:
    assert read(in_records(of_size(MAX_RECORDS), 1)) == ClientHello()
    with pytest.raises(ProtocolError, match=f"over {MAX_RECORDS} records"):
        read(in_records(of_size(MAX_RECORDS + 1), 1))


def test_an_empty_record_is_refused() -> None:
    # Some of them would be read again and again, for ever, and never make a ClientHello.
    with pytest.raises(ProtocolError, match="empty record"):
        read(struct.pack(">BBBH", 22, 3, 1, 0))


def test_what_follows_is_not_copied_for_each_extension() -> None:
    Weighed.copied = 0
    extensions = struct.pack(">HH", 0xFFFF, 0) * 4000
    body = bytes(38) + struct.pack(">H", len(extensions)) + extensions
    message = Weighed(b"\x01" + len(body).to_bytes(3, "big") + body)
    assert client_hello._read(message) == ClientHello()
    assert Weighed.copied < 4 * len(message)


@given(st.lists(st.integers(0, 600)))
def test_it_may_come_in_any_pieces(cuts: list[int]) -> None:
    data = hello("example.com", ["x"])
    reader, ends = HelloReader(), [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found = [reader.feed(data[begin:end]) for begin, end in itertools.pairwise(ends)]
    assert [one for one in found if one] == [ClientHello("example.com", (b"x",))]


@given(st.binary(max_size=80), st.integers(0, 300))
def test_nothing_else_comes_out_of_rubbish(rubbish: bytes, at: int) -> None:
    data = bytearray(hello())
    data[at : at + len(rubbish)] = rubbish
    try:
        found = read(bytes(data))
    except ProtocolError:
        return
    assert found is None or isinstance(found, ClientHello)
