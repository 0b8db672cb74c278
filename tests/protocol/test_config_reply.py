"""The answer to a config request: where the reverse remotes really listen."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.errors import ProtocolError
from cotun_trio.protocol.config import MAX_REMOTES
from cotun_trio.protocol.config_reply import ConfigReply

ADDRESSES = [
    *("0.0.0.0:2222", "127.0.0.1:1080", "[::]:22", "[::1]:65535", "[fe80::1%eth0]:1"),
    *("localhost:1", "unix:/run/app.sock", "unix:./in.sock"),
]


def reply_with(*addresses: object) -> bytes:
    return json.dumps({"Addresses": addresses}).encode()


def test_a_reply_is_one_object_with_the_addresses_in_order() -> None:
    reply = ConfigReply(("0.0.0.0:2222", "unix:/run/app.sock"))
    assert reply.encode() == b'{"Addresses":["0.0.0.0:2222","unix:/run/app.sock"]}'


@given(st.lists(st.sampled_from(ADDRESSES)).map(tuple))
def test_a_reply_is_read_back_from_its_payload(addresses: tuple[str, ...]) -> None:
    reply = ConfigReply(addresses)
    assert ConfigReply.decode(reply.encode()) == reply


def test_the_identity_of_the_server_is_read_back() -> None:
    reply = ConfigReply((), node="0a1b")
    assert reply.encode() == b'{"Addresses":[],"Node":"0a1b"}'
    assert ConfigReply.decode(reply.encode()) == reply


@pytest.mark.parametrize("node", [1, True, ["aa"], "xy", "0" * 65, "a\n"])
def test_what_is_no_identity_is_a_protocol_error(node: object) -> None:
    payload = json.dumps({"Addresses": [], "Node": node}).encode()
    with pytest.raises(ProtocolError, match=r"^config reply: Node") as caught:
        ConfigReply.decode(payload)
    assert str(caught.value).isprintable()


def test_fields_of_a_later_version_do_no_harm() -> None:
    payload = b'{"More":{"a":1},"Addresses":["a:1"],"Other":null}'
    assert ConfigReply.decode(payload) == ConfigReply(("a:1",))


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b"null", b"{}", b"[]", b'"a:1"', b'["a:1"]', b"\xff", b'{"Addresses":null}'),
        *(b'{"Addresses":"a:1"}', b'{"Addresses":{}}', b'{"Addresses":["a:1"]', b"access denied"),
        b'{"a":' * 50_000,
    ],
    ids=lambda payload: ascii(payload[:30]),
)
def test_what_is_no_reply_is_a_protocol_error(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^config reply: ") as caught:
        ConfigReply.decode(payload)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "address",
    [
        *(1, None, True, ["a:1"], {"a": 1}),
        *("", "a", "a:0", "a:", ":80", "a:65536", "a:080", "a:80/udp", "socks", "::1:80", "[::1]"),
        *("a\n:80", "a:80\n", "a b:80", "\x1b[2J:80", "\u202e:80", "\ud800:80", "127.1:80"),
        *("unix:", "unix:/a:", "unix:/a\n", "unix:/a/../b", "unix:/" + "x" * 107, "R:a:80"),
        "a" * 254 + ":80",
    ],
    ids=lambda address: ascii(address)[:40],
)
def test_an_address_is_in_full_and_in_one_spelling(address: object) -> None:
    with pytest.raises(ProtocolError, match=r"^config reply: ") as caught:
        ConfigReply.decode(reply_with("a:1", address))
    assert str(caught.value).isprintable()


def test_the_number_of_addresses_is_bounded() -> None:
    most = ["a:1"] * MAX_REMOTES
    assert len(ConfigReply.decode(reply_with(*most)).addresses) == MAX_REMOTES
    with pytest.raises(ProtocolError, match="more than 1024 addresses"):
        ConfigReply.decode(reply_with(*most, "a:1"))


@given(
    st.binary()
    | st.text('{}[]":,\\aAdres 0').map(str.encode)
    | st.lists(st.text(max_size=9) | st.sampled_from(ADDRESSES)).map(lambda a: reply_with(*a))
)
def test_any_payload_is_a_reply_or_a_protocol_error_on_one_line(payload: bytes) -> None:
    try:
        reply = ConfigReply.decode(payload)
    except ProtocolError as error:
        shown = str(error)
    else:
        shown = " ".join(reply.addresses)
        assert ConfigReply.decode(reply.encode()) == reply
    assert shown.isprintable()
