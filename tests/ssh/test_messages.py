"""The messages of RFC 4254: written byte for byte, and read to the exact end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.errors import ProtocolError
from cotun_trio.ssh import messages
from cotun_trio.ssh.messages import Reader


def read(payload: bytes) -> Reader:
    return Reader(memoryview(payload))


# The section of RFC 4254 (the last: RFC 4253), what was built, and its bytes as the RFC has them.
BUILT = [
    pytest.param(
        messages.global_request(b"ping", b"", want_reply=True),
        b"\x50" + b"\x00\x00\x00\x04ping" + b"\x01",
        id="4-global-request",
    ),
    pytest.param(
        messages.global_request(b"config", b'{"a":1}', want_reply=False),
        b"\x50" + b"\x00\x00\x00\x06config" + b"\x00" + b'{"a":1}',
        id="4-global-request-with-raw-data",
    ),
    pytest.param(
        messages.channel_open(b"chisel", 3, 0x200000, 0x8000, b"host:80"),
        b"\x5a" + b"\x00\x00\x00\x06chisel" + b"\x00\x00\x00\x03" + b"\x00\x20\x00\x00"
        b"\x00\x00\x80\x00" + b"host:80",
        id="5.1-open",
    ),
    pytest.param(
        messages.open_confirmation(1, 2, 2**32 - 1, 4),
        b"\x5b" + b"\x00\x00\x00\x01" + b"\x00\x00\x00\x02" + b"\xff\xff\xff\xff\x00\x00\x00\x04",
        id="5.1-open-confirmation",
    ),
    pytest.param(
        messages.open_failure(1, messages.OPEN_CONNECT_FAILED, "né"),
        b"\x5c" + b"\x00\x00\x00\x01" + b"\x00\x00\x00\x02" + b"\x00\x00\x00\x03n\xc3\xa9"
        b"\x00\x00\x00\x00",
        id="5.1-open-failure",
    ),
    pytest.param(
        messages.window_adjust(5, 0x80000),
        b"\x5d" + b"\x00\x00\x00\x05" + b"\x00\x08\x00\x00",
        id="5.2-window-adjust",
    ),
    pytest.param(
        messages.about_channel(messages.CHANNEL_EOF, 5), b"\x60\x00\x00\x00\x05", id="5.3-eof"
    ),
    pytest.param(
        messages.about_channel(messages.CHANNEL_CLOSE, 2**32 - 1),
        b"\x61\xff\xff\xff\xff",
        id="5.3-close",
    ),
    pytest.param(
        messages.about_channel(messages.CHANNEL_FAILURE, 0),
        b"\x64\x00\x00\x00\x00",
        id="5.4-channel-failure",
    ),
    pytest.param(
        messages.about_channel(messages.UNIMPLEMENTED, 9),
        b"\x03\x00\x00\x00\x09",
        id="11.4-unimplemented",
    ),
    pytest.param(
        messages.disconnect(messages.DISCONNECT_PROTOCOL_ERROR, "bad"),
        b"\x01" + b"\x00\x00\x00\x02" + b"\x00\x00\x00\x03bad" + b"\x00\x00\x00\x00",
        id="11.1-disconnect",
    ),
]


@pytest.mark.parametrize(("built", "expected"), BUILT)
def test_a_message_is_built_as_the_rfc_has_it(built: bytes, expected: bytes) -> None:
    assert built == expected


def test_the_numbers_are_those_of_the_rfcs() -> None:
    # RFC 4250 sections 4.1.2, 4.2.2 and 4.3.2; RFC 8308 section 2.3
    assert (messages.DISCONNECT, messages.IGNORE, messages.UNIMPLEMENTED) == (1, 2, 3)
    assert (messages.DEBUG, messages.SERVICE_REQUEST, messages.SERVICE_ACCEPT) == (4, 5, 6)
    assert (messages.EXT_INFO, messages.KEXINIT, messages.NEWKEYS) == (7, 20, 21)
    assert (messages.USERAUTH_REQUEST, messages.USERAUTH_FAILURE) == (50, 51)
    assert (messages.USERAUTH_SUCCESS, messages.USERAUTH_BANNER) == (52, 53)
    assert (messages.GLOBAL_REQUEST, messages.REQUEST_SUCCESS) == (80, 81)
    assert (messages.REQUEST_FAILURE, messages.CHANNEL_OPEN) == (82, 90)
    assert (messages.CHANNEL_OPEN_CONFIRMATION, messages.CHANNEL_OPEN_FAILURE) == (91, 92)
    assert (messages.CHANNEL_WINDOW_ADJUST, messages.CHANNEL_DATA) == (93, 94)
    assert (messages.CHANNEL_EXTENDED_DATA, messages.CHANNEL_EOF) == (95, 96)
    assert (messages.CHANNEL_CLOSE, messages.CHANNEL_REQUEST) == (97, 98)
    assert (messages.CHANNEL_SUCCESS, messages.CHANNEL_FAILURE) == (99, 100)
    assert (messages.OPEN_PROHIBITED, messages.OPEN_CONNECT_FAILED) == (1, 2)
    assert messages.OPEN_RESOURCE_SHORTAGE == 4
    assert messages.DISCONNECT_PROTOCOL_ERROR == 2
    assert messages.DISCONNECT_BY_APPLICATION == 11
    assert messages.DISCONNECT_NO_MORE_AUTH_METHODS == 14


# The fields of each message, by the name of the Reader's method.
LAYOUTS = [
    pytest.param(BUILT[0].values[0], ("text", "boolean"), id="global-request"),
    pytest.param(BUILT[2].values[0][:-7], ("string", "u32", "u32", "u32"), id="open"),
    pytest.param(BUILT[3].values[0], ("u32", "u32", "u32", "u32"), id="confirmation"),
    pytest.param(BUILT[4].values[0], ("u32", "u32", "text", "string"), id="open-failure"),
    pytest.param(BUILT[5].values[0], ("u32", "u32"), id="window-adjust"),
    pytest.param(BUILT[6].values[0], ("u32",), id="eof"),
    pytest.param(BUILT[10].values[0], ("u32", "text", "text"), id="disconnect"),
]


@pytest.mark.parametrize(("payload", "fields"), LAYOUTS)
def test_every_truncation_of_every_message_is_noticed(payload: bytes, fields: list[str]) -> None:
    def read_all(data: bytes) -> None:
        reader = read(data)
        for field in fields:
            getattr(reader, field)()
        reader.end()

    read_all(payload)
    for size in range(1, len(payload)):
        with pytest.raises(ProtocolError, match="cut short"):
            read_all(payload[:size])
    with pytest.raises(ProtocolError, match="longer than its fields"):
        read_all(payload + b"\0")


def test_a_reader_returns_the_fields_in_order() -> None:
    reader = read(b"\x5a" + b"\x00\x00\x00\x02hi" + b"\x01\x02\x03\x04" + b"\x05" + b"xyz")
    assert bytes(reader.string()) == b"hi"
    assert reader.u32() == 0x01020304
    assert reader.boolean() is True
    assert bytes(reader.skip(1)) == b"x"
    assert bytes(reader.rest()) == b"yz"
    reader.end()
    assert bytes(reader.rest()) == b""


def test_any_byte_but_zero_is_true() -> None:
    # RFC 4251 section 5
    assert [read(b"\x50" + bytes((byte,))).boolean() for byte in (0, 1, 2, 255)] == [
        False,
        True,
        True,
        True,
    ]


def test_a_length_beyond_the_message_is_refused_however_large_it_is() -> None:
    for length in (2, 2**31, 2**32 - 1):
        with pytest.raises(ProtocolError, match="message 90 is cut short"):
            read(b"\x5a" + length.to_bytes(4, "big") + b"x").string()


@pytest.mark.parametrize("text", [b"\xff", b"caf\xe9", b"\xed\xa0\x80", b"\xc0\x80", b"\xf0\x9f"])
def test_text_that_is_not_utf_8_is_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError, match="invalid UTF-8"):
        read(b"\x50" + messages.string(text)).text()


def test_text_may_be_any_utf_8() -> None:
    assert read(b"\x50" + messages.string("münchen 😀\0".encode())).text() == "münchen 😀\0"


@given(st.binary(max_size=30), st.sampled_from(["u32", "boolean", "string", "text"]))
def test_no_bytes_make_a_reader_raise_anything_else(data: bytes, field: str) -> None:
    reader = read(b"\x50" + data)
    with pytest.raises(ProtocolError):
        for _ in range(len(data) + 1):
            getattr(reader, field)()


@given(st.lists(st.binary(max_size=50)))
def test_strings_come_back_as_they_were_written(strings: list[bytes]) -> None:
    reader = read(b"\x50" + b"".join(map(messages.string, strings)))
    assert [bytes(reader.string()) for _ in strings] == strings
    reader.end()
