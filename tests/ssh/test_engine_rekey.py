"""New keys in the middle of a session, whoever wants them, and what may not be said meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cotun_trio.budget import KEY_EXCHANGE
from cotun_trio.errors import ProtocolError
from cotun_trio.ssh import messages
from cotun_trio.ssh.engine import KEYS_ARE_FOR, KeysAgreed, KeysRenewed, LoggedIn, LoginRequested
from cotun_trio.ssh.packetizer import RekeyLimit
from tests.support.ssh import (
    KEX_METHODS,
    OTHER,
    PASSWORD,
    USER,
    EnginePair,
    channel_data,
    host_key,
    make_engine,
)

if TYPE_CHECKING:
    from tests.support.ssh import Side

both_sides = pytest.mark.parametrize("side", ["client", "server"])
who_starts = pytest.mark.parametrize(
    "starters", [("client",), ("server",), ("client", "server")], ids=["client", "server", "both"]
)
DATA = b"\x5e" + bytes(4) + messages.string(b"data")


def keys_of(pair: EnginePair) -> list[object]:
    """Return the four cipher objects that are in use."""
    return [
        direction and direction.cipher
        for engine in (pair.client, pair.server)
        for direction in (engine.packetizer._inbound, engine.packetizer._outbound)
    ]


@pytest.mark.parametrize("step", [1, 2**18])
@pytest.mark.parametrize("kex", KEX_METHODS)
@who_starts
def test_new_keys_are_agreed_whoever_begins(
    starters: tuple[Side, ...], kex: str, step: int
) -> None:
    pair = EnginePair(make_engine("client", kex=[kex]), step=step).run()
    session_id = pair.client._transport.session_id
    for _ in range(3):
        before = keys_of(pair)
        for side in starters:
            pair.engines[side].start_rekey()
            assert not pair.engines[side].may_send
        pair.run()
        assert not set(before) & set(keys_of(pair))
        for side, engine in pair.engines.items():
            assert pair.events[side][-1] == KeysRenewed()
            assert engine.may_send
        pair.say("client", DATA)
        pair.say("server", DATA)
        assert pair.events["client"][-1] == pair.events["server"][-1] == DATA
    # RFC 4253 section 7.2: that of the first key exchange, for ever.
    assert pair.client._transport.session_id == pair.server._transport.session_id == session_id


@both_sides
def test_a_rekey_is_not_begun_twice(side: Side) -> None:
    pair = EnginePair().run()
    engine = pair.engines[side]
    engine.start_rekey()
    size = len(engine.packetizer.out)
    engine.start_rekey()
    assert len(engine.packetizer.out) == size > 0
    pair.run()
    assert pair.events[side][2:] == [KeysRenewed()]


@both_sides
def test_data_sent_before_a_rekey_and_on_its_way_arrives(side: Side) -> None:
    pair = EnginePair().run()
    other = OTHER[side]
    # Both the starter's own data and what its peer sent before it heard of the re-key.
    pair.engines[side].packetizer.send_payload(DATA + b"1")
    pair.engines[other].packetizer.send_payload(DATA + b"2")
    pair.engines[side].start_rekey()
    pair.engines[other].packetizer.send_payload(DATA + b"3")
    pair.run()
    assert pair.events[other][2:] == [DATA + b"1", KeysRenewed()]
    assert pair.events[side][2:] == [DATA + b"2", DATA + b"3", KeysRenewed()]


@both_sides
def test_data_may_follow_the_peers_newkeys_at_once(side: Side) -> None:
    pair = EnginePair().run()
    pair.engines[OTHER[side]].start_rekey()
    while pair.events[OTHER[side]][-1] != KeysRenewed():
        pair.carry("client")
        pair.carry("server")
    pair.say(OTHER[side], DATA, DATA)
    assert pair.events[side][2:] == [KeysRenewed(), DATA, DATA]


@both_sides
@pytest.mark.parametrize("kind", [50, 80, 81, 90, 94, 97, 100, 200])
def test_a_message_in_the_middle_of_the_peers_key_exchange_is_refused(
    side: Side, kind: int
) -> None:
    pair = EnginePair().run()
    pair.engines[OTHER[side]].start_rekey()
    with pytest.raises(ProtocolError, match="in a key exchange"):
        pair.say(OTHER[side], bytes((kind,)) + bytes(20))
    assert pair.failed == side


@both_sides
def test_ignorable_messages_are_fine_in_a_later_key_exchange(side: Side) -> None:
    pair = EnginePair().run()
    pair.engines[OTHER[side]].start_rekey()
    pair.say(OTHER[side], b"\x02", b"\x03", b"\x04", b"\x07" + b"\xff" * 4)
    assert pair.events[side][2:] == [KeysRenewed()]


@both_sides
def test_nothing_but_the_key_exchange_may_be_sent_from_kexinit_to_newkeys(side: Side) -> None:
    pair = EnginePair().run()
    engine = pair.engines[side]
    assert engine.may_send
    pair.engines[OTHER[side]].start_rekey()
    pair.carry(OTHER[side])
    # From the moment at which our own KEXINIT left until the peer's NEWKEYS has come.
    while pair.events[side][-1] != KeysRenewed():
        assert not engine.may_send
        pair.carry(side)
        assert not engine.may_send
        pair.carry(OTHER[side])
    assert engine.may_send


@pytest.mark.parametrize("kind", ["bytes", "packets"])
def test_a_rekey_is_due_and_not_due_any_more_when_it_is_done(kind: str) -> None:
    limit = RekeyLimit(bytes=100_000) if kind == "bytes" else RekeyLimit(packets=50)
    pair = EnginePair(make_engine("client", rekey_limit=limit)).run()
    while not pair.client.packetizer.need_rekey():
        pair.say("server", DATA + bytes(2000))
    assert 40 <= len(pair.events["client"]) <= 52
    pair.client.start_rekey()
    pair.run()
    assert not pair.client.packetizer.need_rekey()


def test_a_server_with_another_host_key_in_a_later_key_exchange_is_refused() -> None:
    pair = EnginePair().run()
    pair.server._transport.add_server_key(host_key("ecdsa", 1))
    pair.client.start_rekey()
    with pytest.raises(ProtocolError, match="another host key"):
        pair.run()
    assert pair.failed == "client"
    assert not pair.client.may_send


def test_a_server_with_another_kind_of_host_key_in_a_later_key_exchange_is_refused() -> None:
    pair = EnginePair().run()
    pair.server._transport.server_key_dict.clear()
    pair.server._transport.add_server_key(host_key("ed25519"))
    pair.server.start_rekey()
    with pytest.raises(ProtocolError, match="another host key"):
        pair.run()


@both_sides
def test_a_peer_may_renew_the_keys_before_the_login(side: Side) -> None:
    pair = EnginePair(user=None).run()
    transport = pair.engines[side]._transport
    transport._send_kex_init()
    pair.engines[side]._exchanging = True
    pair.run()
    assert pair.events["client"][1:] == pair.events["server"][1:] == [KeysRenewed()]
    assert not pair.client.may_send
    assert not pair.server.may_send
    pair.client.log_in(USER, PASSWORD)
    pair.run()
    assert pair.client.may_send
    assert pair.server.may_send


@both_sides
def test_no_rekey_is_begun_before_the_login_is_done(side: Side) -> None:
    # It would have to hold back the login's own messages; nothing before it is worth that.
    pair = EnginePair(verdict=None).run()
    pair.engines[side].start_rekey()
    assert not pair.engines[side].packetizer.out
    pair.server.answer_login(accepted=True)
    pair.run()
    assert pair.events["client"][1:] == [LoggedIn()]
    pair.engines[side].start_rekey()
    pair.run()
    assert pair.events["client"][2:] == [KeysRenewed()]


def test_a_rekey_that_a_client_begins_while_its_login_is_judged_waits_for_the_verdict() -> None:
    pair = EnginePair(verdict=None).run()
    pair.client._exchanging = True
    pair.client._transport._send_kex_init()
    pair.run()
    assert pair.heard["server"][-1][0] == messages.USERAUTH_REQUEST
    pair.server.answer_login(accepted=True)
    pair.carry("server")
    assert pair.events["client"][-1] == LoggedIn()
    assert not pair.client.may_send
    pair.feed("server", b"")
    pair.run()
    assert pair.events["server"] == [KeysAgreed(b""), LoginRequested(USER, PASSWORD), KeysRenewed()]
    assert pair.events["client"][1:] == [LoggedIn(), KeysRenewed()]
    assert pair.client.may_send
    assert pair.server.may_send


@both_sides
def test_new_keys_for_nothing_are_waste_and_those_that_are_due_are_not(side: Side) -> None:
    pair = EnginePair().run()
    other = pair.engines[OTHER[side]]
    budget = pair.engines[side].packetizer.budget
    budget.wasted = 0
    other.start_rekey()  # right after the login
    pair.run()
    assert budget.wasted == 2 * KEY_EXCHANGE
    budget.wasted = 0
    for _ in range(KEYS_ARE_FOR // 1024):
        pair.say(OTHER[side], channel_data(0, bytes(1024)))
    other.start_rekey()
    pair.run()
    assert budget.wasted == 0
    pair.engines[side].start_rekey()  # our own idea
    pair.run()
    assert budget.wasted == 0
