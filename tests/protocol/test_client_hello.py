"""ClientHellos: those of a real library, whole, byte by byte, and broken."""

from __future__ import annotations

import ssl
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.errors import ProtocolError
from cotun_trio.protocol.client_hello import MAX_HELLO, ClientHello


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
    assert ClientHello.read(hello(name, protocols)) == expected


def test_as_long_as_it_is_not_whole_there_is_none() -> None:
    data = hello("example.com", ["x"])
    assert all(ClientHello.read(data[:size]) is None for size in range(len(data)))
    assert ClientHello.read(data + b"more") == ClientHello("example.com", (b"x",))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_it_may_be_spread_over_many_records(size: int) -> None:
    message = hello("example.com")[5:]
    records = b"".join(
        struct.pack(">BBBH", 22, 3, 1, len(part)) + part
        for part in (message[at : at + size] for at in range(0, len(message), size))
    )
    assert ClientHello.read(records) == ClientHello("example.com")
    assert ClientHello.read(records[:-1]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"G",
        b"\x17\x03\x03\x00\x01x",
        b"\x16\x02\x00\x00\x01x",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",  # another handshake message
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01x",  # cut short inside
    ],
)
def test_what_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^TLS: "):
        ClientHello.read(data)


def test_one_that_is_too_long_is_refused() -> None:
    record = struct.pack(">BBBH", 22, 3, 1, 10_000) + b"\x01\xff\xff\xff" + bytes(9_996)
    assert ClientHello.read(record) is None
    with pytest.raises(ProtocolError, match=f"over {MAX_HELLO} bytes"):
        ClientHello.read(record + record)


@given(st.binary(max_size=80), st.integers(0, 300))
def test_nothing_else_comes_out_of_rubbish(rubbish: bytes, at: int) -> None:
    data = bytearray(hello())
    data[at : at + len(rubbish)] = rubbish
    try:
        found = ClientHello.read(bytes(data))
    except ProtocolError:
        return
    assert found is None or isinstance(found, ClientHello)
