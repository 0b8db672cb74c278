"""A key exchange with a peer that gets something wrong, or means to."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotun_trio.errors import ConnectionLost, CotunError, ProtocolError
from cotun_trio.ssh import messages
from tests.support.ssh import (
    CLIENT_VERSION,
    KEX_METHODS,
    OTHER,
    SERVER_VERSION,
    EnginePair,
    feed,
    host_key,
    kex_init,
    lists_of,
    make_engine,
    plain_packet,
    rewriting,
    split_plain,
    take_out,
)

if TYPE_CHECKING:
    from cotun_trio.ssh.engine import Engine
    from tests.support.ssh import Side

LINES: dict[Side, bytes] = {
    "client": CLIENT_VERSION.encode() + b"\r\n",
    "server": SERVER_VERSION.encode() + b"\r\n",
}
both_sides = pytest.mark.parametrize("victim", ["client", "server"])
CURVE = "curve25519-sha256"


def offer_of(side: Side) -> bytes:
    """Return the KEXINIT that an engine of ours sends."""
    return split_plain(take_out(make_engine(side)))[1][0]


def greeted(victim: Side) -> Engine:
    """Return an engine that has read a version line, and nothing else."""
    engine = make_engine(victim)
    feed(engine, LINES[OTHER[victim]])
    return engine


def exchanging(victim: Side, kex: str = CURVE) -> Engine:
    """Return an engine that has also read a KEXINIT, and waits for the public value."""
    peer = make_engine(OTHER[victim], kex=[kex])
    engine = make_engine(victim)
    feed(engine, take_out(peer))
    return engine


# ---- KEXINIT


@both_sides
def test_a_kexinit_cut_short_anywhere_is_refused(victim: Side) -> None:
    whole = offer_of(OTHER[victim])
    for size in range(1, len(whole)):
        with pytest.raises(ProtocolError):
            feed(greeted(victim), plain_packet(whole[:size]))
    assert feed(greeted(victim), plain_packet(whole)) == []


@both_sides
def test_a_kexinit_with_something_behind_it_is_refused(victim: Side) -> None:
    with pytest.raises(ProtocolError, match="longer"):
        feed(greeted(victim), plain_packet(offer_of(OTHER[victim]) + b"\0"))


@both_sides
@pytest.mark.parametrize("which", range(10))
def test_a_list_of_algorithms_that_is_not_ascii_is_refused(victim: Side, which: int) -> None:
    for junk in (b"\xff", b"\xc3\xa9"):
        lists = lists_of(offer_of(OTHER[victim]))
        lists[which] += b"," + junk
        with pytest.raises(ProtocolError, match="not ASCII"):
            feed(greeted(victim), plain_packet(kex_init(lists)))


@both_sides
def test_a_guessed_first_packet_is_refused(victim: Side) -> None:
    lists = lists_of(offer_of(OTHER[victim]))
    with pytest.raises(ProtocolError, match="guessed"):
        feed(greeted(victim), plain_packet(kex_init(lists, follows=True)))


@both_sides
@pytest.mark.parametrize("which", range(8))
@pytest.mark.parametrize("names", [b"", b"unknown", b"none ", b",,,"])
def test_having_nothing_in_common_in_any_list_is_refused(
    victim: Side, which: int, names: bytes
) -> None:
    lists = lists_of(offer_of(OTHER[victim]))
    lists[which] = names
    with pytest.raises(ProtocolError, match="key exchange failed"):
        feed(greeted(victim), plain_packet(kex_init(lists)))


@both_sides
@settings(max_examples=50)
@given(
    noise=st.lists(st.binary(max_size=40), min_size=10, max_size=10),
    keep=st.sets(st.integers(0, 9)),
)
def test_no_lists_make_it_raise_anything_else(
    victim: Side, noise: list[bytes], keep: set[int]
) -> None:
    offered = lists_of(offer_of(OTHER[victim]))
    lists = [
        offer if i in keep else junk
        for i, (offer, junk) in enumerate(zip(offered, noise, strict=True))
    ]
    with contextlib.suppress(ProtocolError):
        assert feed(greeted(victim), plain_packet(kex_init(lists))) == []


@both_sides
def test_a_second_kexinit_is_refused(victim: Side) -> None:
    packet = plain_packet(offer_of(OTHER[victim]))
    with pytest.raises(ProtocolError, match="message 20 out of turn"):
        feed(greeted(victim), packet + packet)


# ---- strict key exchange (the answer to the Terrapin attack)

HARMLESS = [
    pytest.param(b"\x02" + messages.string(b"data"), id="IGNORE"),
    pytest.param(b"\x03" + bytes(4), id="UNIMPLEMENTED"),
    pytest.param(b"\x04\x00" + messages.string(b"text") + bytes(4), id="DEBUG"),
    pytest.param(b"\x07" + bytes(4), id="EXT_INFO"),
]


@both_sides
@pytest.mark.parametrize("payload", HARMLESS)
def test_with_strict_key_exchange_nothing_comes_before_the_kexinit(
    victim: Side, payload: bytes
) -> None:
    engine = greeted(victim)
    feed(engine, plain_packet(payload))
    with pytest.raises(ProtocolError, match="not the first packet"):
        feed(engine, plain_packet(offer_of(OTHER[victim])))


@both_sides
@pytest.mark.parametrize("payload", HARMLESS)
def test_with_strict_key_exchange_nothing_comes_between_kexinit_and_newkeys(
    victim: Side, payload: bytes
) -> None:
    engine = exchanging(victim)
    with pytest.raises(ProtocolError, match="strict key exchange"):
        feed(engine, plain_packet(payload))


@pytest.mark.parametrize("payload", HARMLESS)
def test_with_strict_key_exchange_nothing_comes_before_newkeys_either(payload: bytes) -> None:
    pair = EnginePair()
    for sender in ("client", "server", "client"):
        pair.carry(sender)
    # The server has answered; its NEWKEYS is the last packet of its answer.
    answer = take_out(pair.server)
    _, (reply, newkeys) = split_plain(b"\n" + answer)
    assert newkeys == b"\x15"
    with pytest.raises(ProtocolError, match="strict key exchange"):
        pair.feed("client", plain_packet(reply) + plain_packet(payload))


@both_sides
@pytest.mark.parametrize("payload", HARMLESS)
def test_a_peer_without_strict_key_exchange_may_send_them_any_time(
    victim: Side, payload: bytes
) -> None:
    peer = make_engine(OTHER[victim], strict=False)
    greeting = take_out(peer)
    line, (offer,) = split_plain(greeting)
    engine = make_engine(victim)
    assert feed(engine, line + plain_packet(payload) + plain_packet(offer)) == []
    assert feed(engine, plain_packet(payload)) == []
    assert engine._transport.agreed_on_strict_kex is False


@both_sides
def test_a_peer_without_strict_key_exchange_can_log_in(victim: Side) -> None:
    peer = make_engine(OTHER[victim], strict=False)
    engine = make_engine(victim)
    pair = EnginePair(*((engine, peer) if victim == "client" else (peer, engine))).run()
    assert pair.client.authenticated
    assert pair.server.authenticated
    # The count goes on over NEWKEYS: KEXINIT, public value, NEWKEYS, and what the login takes.
    assert engine.packetizer.sequence_in == len(pair.heard[victim]) > 4


def test_with_strict_key_exchange_the_count_begins_again_after_newkeys() -> None:
    pair = EnginePair().run()
    assert pair.heard["client"][2] == pair.heard["server"][2] == b"\x15"
    assert pair.client.packetizer.sequence_in == len(pair.heard["client"]) - 3
    assert pair.server.packetizer.sequence_in == len(pair.heard["server"]) - 3


# ---- turns


@both_sides
def test_every_type_of_message_before_the_kexinit_leads_nowhere(victim: Side) -> None:
    for kind in range(256):
        engine = greeted(victim)
        take_out(engine)
        packet = plain_packet(bytes((kind,)))
        if kind in (messages.IGNORE, messages.UNIMPLEMENTED, messages.DEBUG, messages.EXT_INFO):
            assert feed(engine, packet) == []
        else:
            with pytest.raises(ProtocolError):
                feed(engine, packet)
        assert not engine.packetizer.out
        assert not engine.authenticated


@both_sides
@pytest.mark.parametrize("body", [b"", bytes(8)])
def test_every_type_of_message_in_the_key_exchange_is_refused(victim: Side, body: bytes) -> None:
    for kind in range(256):
        engine = exchanging(victim)
        take_out(engine)
        disconnect = kind == messages.DISCONNECT and body
        with pytest.raises(ConnectionLost if disconnect else ProtocolError):
            feed(engine, plain_packet(bytes((kind,)) + body))
        assert not engine.packetizer.out
        assert not engine.authenticated


@both_sides
@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"\x05" + messages.string(b"ssh-userauth"), id="SERVICE_REQUEST"),
        pytest.param(b"\x34", id="USERAUTH_SUCCESS"),
        pytest.param(messages.global_request(b"ping", b"", want_reply=True), id="GLOBAL_REQUEST"),
    ],
)
def test_before_the_first_newkeys_nobody_may_log_in_or_more(victim: Side, payload: bytes) -> None:
    for engine in (greeted(victim), exchanging(victim)):
        with pytest.raises(ProtocolError):
            feed(engine, plain_packet(payload))


@both_sides
@pytest.mark.parametrize("kind", [20, 21, 30, 31, 32, 49])
def test_messages_of_the_key_exchange_out_of_turn_are_refused(victim: Side, kind: int) -> None:
    if kind != 20:
        with pytest.raises(ProtocolError, match="out of turn"):
            feed(greeted(victim), plain_packet(bytes((kind,))))
    pair = EnginePair().run()
    if kind != 20:
        with pytest.raises(ProtocolError, match="out of turn"):
            pair.say(OTHER[victim], bytes((kind,)))
    else:
        with pytest.raises(ProtocolError, match="cut short"):
            pair.say(OTHER[victim], bytes((kind,)))
    assert pair.failed == victim


def test_newkeys_has_no_body() -> None:
    pair = EnginePair(tamper=rewriting("server", 21, lambda payload: payload + b"\0"))
    with pytest.raises(ProtocolError, match="longer"):
        pair.run()
    assert pair.failed == "client"


def test_no_keys_are_used_before_newkeys() -> None:
    # The client is told nothing until the server's NEWKEYS, though it could compute the keys.
    pair = EnginePair(tamper=rewriting("server", 21, lambda _payload: b"\x02" + bytes(4)))
    with pytest.raises(ProtocolError, match="strict"):
        pair.run()
    assert pair.events == {"client": [], "server": []}


# ---- the public values

LOW_ORDER = [  # points of order 1, 2, 4 and 8 on curve25519, and non-canonical forms of some
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    b"\xec" + b"\xff" * 30 + b"\x7f",
    b"\xed" + b"\xff" * 30 + b"\x7f",
    b"\xee" + b"\xff" * 30 + b"\x7f",
]
BAD_VALUES = {
    CURVE: [b"", b"x", bytes(31), bytes(33), *LOW_ORDER],
    "mlkem768x25519-sha256": [
        b"",
        bytes(32),
        bytes(1215),
        bytes(1216),
        b"\xff" * 1216,
        bytes(1120),
    ],
}
bad_values = pytest.mark.parametrize(
    ("kex", "value"),
    [
        pytest.param(kex, value, id=f"{kex}-{i}")
        for kex, values in BAD_VALUES.items()
        for i, value in enumerate(values)
    ],
)


@bad_values
def test_a_public_value_that_is_none_is_refused_by_the_server(kex: str, value: bytes) -> None:
    with pytest.raises(ProtocolError, match="key exchange failed"):
        feed(exchanging("server", kex), plain_packet(b"\x1e" + messages.string(value)))


@bad_values
def test_a_public_value_that_is_none_is_refused_by_the_client(kex: str, value: bytes) -> None:
    number = messages.string(b"\x01" * 32)
    signature = messages.string(b"ecdsa-sha2-nistp256") + messages.string(number * 2)
    fields = (host_key().asbytes(), value, signature)
    payload = b"\x1f" + b"".join(map(messages.string, fields))
    with pytest.raises(ProtocolError, match="key exchange failed") as caught:
        feed(exchanging("client", kex), plain_packet(payload))
    # It did not even come to that: no secret was computed from the value.
    assert "Signature" not in str(caught.value)


@pytest.mark.parametrize("kex", KEX_METHODS)
@pytest.mark.parametrize("kind", [30, 31])
def test_a_public_value_message_cut_short_anywhere_is_refused(kex: str, kind: int) -> None:
    sender: Side = "client" if kind == 30 else "server"
    recorded: list[bytes] = []

    def record(payload: bytes) -> bytes:
        recorded.append(payload)
        return payload

    EnginePair(make_engine("client", kex=[kex]), tamper=rewriting(sender, kind, record)).run()
    size = len(recorded[0])
    for cut in [*range(1, min(60, size)), *range(60, size, 41), size - 1]:
        with pytest.raises(ProtocolError, match="cut short"):
            feed(exchanging(OTHER[sender], kex), plain_packet(recorded[0][:cut]))
    with pytest.raises(ProtocolError, match="longer"):
        feed(exchanging(OTHER[sender], kex), plain_packet(recorded[0] + b"\0"))


# ---- anything at all


@given(
    st.lists(st.binary(min_size=1, max_size=100), max_size=4), st.sampled_from(["client", "server"])
)
def test_no_packets_before_the_keys_make_an_engine_raise_anything_else(
    payloads: list[bytes], victim: Side
) -> None:
    for engine in (greeted(victim), exchanging(victim)):
        with contextlib.suppress(CotunError):
            for payload in payloads:
                assert feed(engine, plain_packet(payload)) == []
