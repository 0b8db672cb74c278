"""What an engine makes of messages once it is logged in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotun_trio.errors import ConnectionLost, CotunError, ProtocolError
from cotun_trio.ssh import messages
from tests.support.ssh import OTHER, EnginePair, feed, make_engine, plain_packet

if TYPE_CHECKING:
    from tests.support.ssh import Side

both_sides = pytest.mark.parametrize("victim", ["client", "server"])
PING = messages.global_request(b"ping", b"", want_reply=True)

KNOWN = {1, 2, 3, 4, 7}
"""Types up to 79 that mean something after the login, besides key exchange and, to a server, 50."""


@both_sides
def test_connection_messages_are_passed_on_as_they_are_whatever_their_type(victim: Side) -> None:
    pair = EnginePair().run()
    payloads = [bytes((kind,)) + bytes(range(kind % 50)) for kind in range(80, 256)]
    pair.say(OTHER[victim], *payloads)
    assert [event for event in pair.events[victim] if isinstance(event, bytes)] == payloads


@both_sides
def test_an_unknown_message_is_answered_with_its_number_and_the_session_goes_on(
    victim: Side,
) -> None:
    pair = EnginePair().run()
    sender = OTHER[victim]
    # Strict key exchange: counted from 0 after NEWKEYS. The login took the first two.
    number = 2
    unknown = [0, *range(5, 7), *range(8, 20), *range(51, 80)]
    for kind in unknown:
        pair.say(sender, PING, bytes((kind,)) + bytes(9))
        assert pair.heard[sender][-1] == b"\x03" + (number + 1).to_bytes(4, "big")
        number += 2
    pings = [event for event in pair.events[victim] if isinstance(event, bytes)]
    assert pings == [PING] * len(unknown)


@both_sides
def test_the_number_of_an_unknown_message_is_right_within_a_batch(victim: Side) -> None:
    pair = EnginePair().run()
    pair.say(OTHER[victim], b"\x0b", PING, b"\x0c", b"\x0d")
    assert pair.heard[OTHER[victim]][-3:] == [b"\x03\0\0\0" + bytes((n,)) for n in (2, 4, 5)]


def test_without_strict_key_exchange_all_packets_are_counted() -> None:
    pair = EnginePair(make_engine("client", strict=False)).run()
    pair.say("client", b"\x0b")
    # KEXINIT, public value, NEWKEYS, service request, login
    assert pair.heard["client"][-1] == b"\x03" + (5).to_bytes(4, "big")


def test_the_number_of_an_unknown_message_may_wrap() -> None:
    pair = EnginePair().run()
    pair.server.packetizer.sequence_in = 2**32 - 1
    pair.say("client", b"\x0b", b"\x0c")
    assert pair.heard["client"][-2:] == [b"\x03\xff\xff\xff\xff", b"\x03\0\0\0\0"]


@both_sides
@pytest.mark.parametrize("kind", [2, 3, 4, 7])
def test_messages_that_need_no_answer_get_none_however_they_are_cut(
    victim: Side, kind: int
) -> None:
    pair = EnginePair().run()
    before = len(pair.heard[OTHER[victim]])
    for size in range(10):
        pair.say(OTHER[victim], bytes((kind,)) + b"\xff" * size)
    assert len(pair.heard[OTHER[victim]]) == before


@both_sides
def test_a_disconnect_ends_it_with_the_peers_reason_escaped(victim: Side) -> None:
    pair = EnginePair().run()
    with pytest.raises(ConnectionLost) as caught:
        pair.say(OTHER[victim], messages.disconnect(11, "by\x1b[31m\n" + "x" * 5000))
    assert r"by\x1b[31m\n" in str(caught.value)
    assert "(11)" in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_a_disconnect_may_lack_its_language_and_hold_any_bytes() -> None:
    pair = EnginePair().run()
    with pytest.raises(ConnectionLost, match=r"\\xff"):
        pair.say("server", b"\x01\0\0\0\x02" + messages.string(b"\xff"))


def test_a_disconnect_cut_short_is_a_fault_of_the_peers() -> None:
    for body in (b"", b"\0\0\0\x02", b"\0\0\0\x02\0\0\0\x05abc"):
        with pytest.raises(ProtocolError, match="cut short"):
            EnginePair().run().say("server", b"\x01" + body)


@both_sides
def test_a_disconnect_before_any_keys_ends_it_too(victim: Side) -> None:
    engine = make_engine(victim)
    with pytest.raises(ConnectionLost, match="too busy"):
        feed(engine, b"SSH-x\r\n" + plain_packet(messages.disconnect(12, "too busy")))


def test_an_engine_can_answer_that_it_does_not_know_a_connection_message() -> None:
    pair = EnginePair().run()
    pair.client.packetizer.send_payload(b"\xc8")
    pair.run()
    pair.server.answer_unimplemented()
    pair.run()
    assert pair.heard["client"][-1] == b"\x03\0\0\0\x02"


@both_sides
@settings(max_examples=50)
@given(payload=st.binary(min_size=1, max_size=60))
def test_no_message_makes_an_engine_raise_anything_else(victim: Side, payload: bytes) -> None:
    pair = EnginePair().run()
    try:
        pair.say(OTHER[victim], payload)
    except CotunError as error:
        assert isinstance(error, ProtocolError | ConnectionLost)  # noqa: PT017
        assert payload[0] in KNOWN or 20 <= payload[0] < 50
