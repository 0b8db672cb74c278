"""The login (RFC 4252): who may come in, who decides, and what a hostile end can make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cotun_trio.errors import AuthenticationFailed, ConnectionLost, CotunError, ProtocolError
from cotun_trio.ssh import messages
from cotun_trio.ssh.engine import MAX_LOGIN_TRIES, KeysAgreed, LoggedIn, LoginRequested
from cotun_trio.ssh.packetizer import MAX_PACKET_BEFORE_LOGIN
from cotun_trio.ssh.scratch import MAX_PACKET_IN
from tests.support.ssh import OTHER, PASSWORD, USER, EnginePair, login_request, take_out

if TYPE_CHECKING:
    from tests.support.ssh import Side

SERVICE = b"\x05" + messages.string(b"ssh-userauth")
SERVICE_ACCEPT = b"\x06" + messages.string(b"ssh-userauth")
ONLY_PASSWORD = b"\x33" + messages.string(b"password") + b"\0"
SUCCESS = b"\x34"


def with_keys(*, verdict: bool | None = None) -> EnginePair:
    """Return a pair that has agreed on keys; the client says nothing of itself."""
    return EnginePair(user=None, verdict=verdict).run()


def with_puppet(*, verdict: bool | None = None) -> EnginePair:
    """Return such a pair, with a client that does not care what is said of its logins."""
    pair = with_keys(verdict=verdict)
    client: Any = pair.client
    client._on_login = lambda _kind, _reader: ()
    return pair


def answers(pair: EnginePair) -> list[bytes]:
    """Return what the server has said since its NEWKEYS."""
    heard = pair.heard["client"]
    return heard[heard.index(b"\x15") + 1 :]


# ---- the server's side


def test_the_client_asks_for_the_service_and_the_login_at_once() -> None:
    pair = with_keys()
    pair.client.log_in("alice", "pässword")
    pair.carry("client")
    assert pair.heard["server"][3:] == [
        SERVICE,
        login_request(b"alice", "pässword".encode()),
    ]
    assert answers(pair) == []
    assert pair.events["server"][1:] == [LoginRequested("alice", "pässword")]


def test_an_accepted_login_begins_the_connection_on_both_sides() -> None:
    pair = with_keys(verdict=True)
    pair.client.log_in("alice", "secret")
    assert not pair.client.may_send
    pair.run()
    assert answers(pair) == [SERVICE_ACCEPT, SUCCESS]
    assert pair.events["client"][1:] == [LoggedIn()]
    for engine in (pair.client, pair.server):
        assert engine.authenticated
        assert engine.may_send
        assert engine.user == "alice"


@pytest.mark.parametrize("user", ["", "müller", "x" * 1000, "a\nb"])
def test_any_user_and_password_arrive_as_they_are(user: str) -> None:
    pair = with_keys()
    pair.client.log_in(user, user[::-1])
    pair.run()
    assert pair.events["server"][1:] == [LoginRequested(user, user[::-1])]


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(login_request(method=b"none"), id="none"),
        pytest.param(
            login_request(method=b"publickey") + b"\0" + messages.string(b"ssh-ed25519") * 2,
            id="publickey",
        ),
        pytest.param(
            login_request(method=b"keyboard-interactive") + messages.string(b"") * 2,
            id="keyboard-interactive",
        ),
        pytest.param(login_request(method=b"hostbased") + b"junk", id="hostbased"),
        pytest.param(login_request(method=b""), id="empty"),
        pytest.param(login_request(change=True) + messages.string(b"new"), id="password-change"),
    ],
)
def test_a_method_other_than_password_is_refused_naming_password(request_: bytes) -> None:
    pair = with_puppet(verdict=True)
    pair.say("client", SERVICE, request_)
    assert answers(pair) == [SERVICE_ACCEPT, ONLY_PASSWORD]
    assert not pair.server.authenticated
    assert not pair.server.packetizer.held
    # As Go does it: "none" first, then the password.
    pair.say("client", login_request(b"bob", b"secret"))
    assert pair.events["server"][1:] == [LoginRequested("bob", "secret")]
    assert answers(pair)[2:] == [SUCCESS]


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"\x05" + messages.string(b"ssh-connection"), id="service-request"),
        pytest.param(b"\x05" + messages.string(b""), id="no-service"),
        pytest.param(login_request(service=b"ssh-userauth"), id="login-for-userauth"),
        pytest.param(login_request(service=b"", method=b"none"), id="login-for-nothing"),
    ],
)
def test_any_other_service_is_refused(payload: bytes) -> None:
    pair = with_keys(verdict=True)
    with pytest.raises(ProtocolError, match="no such SSH service"):
        pair.say("client", payload)
    assert not pair.server.authenticated


def test_a_wrong_password_may_be_followed_by_a_right_one_of_another_user() -> None:
    pair = with_puppet()
    pair.say("client", login_request(b"alice", b"wrong"))
    pair.server.answer_login(accepted=False)
    pair.say("client", login_request(b"bob", b"right"))
    pair.server.answer_login(accepted=True)
    pair.run()
    assert pair.events["server"][1:] == [
        LoginRequested("alice", "wrong"),
        LoginRequested("bob", "right"),
    ]
    assert answers(pair) == [ONLY_PASSWORD, SUCCESS]
    assert pair.server.user == "bob"


def test_the_third_wrong_password_is_the_last() -> None:
    pair = with_puppet()
    for i in range(MAX_LOGIN_TRIES):
        pair.say("client", login_request(b"user", b"guess %d" % i))
        if i < MAX_LOGIN_TRIES - 1:
            pair.server.answer_login(accepted=False)
    with pytest.raises(AuthenticationFailed):
        pair.server.answer_login(accepted=False)
    pair.run()
    assert answers(pair) == [ONLY_PASSWORD] * MAX_LOGIN_TRIES
    assert not pair.server.authenticated


def test_methods_that_are_not_offered_do_not_count_as_tries() -> None:
    pair = with_puppet(verdict=True)
    pair.say("client", *[login_request(method=b"none")] * 10, login_request())
    assert pair.server.authenticated


@pytest.mark.parametrize("step", [1, 2**18])
def test_nothing_is_processed_between_a_login_and_its_answer(step: int) -> None:
    pair = EnginePair(user=None, verdict=None, step=step).run()
    ping = messages.global_request(b"ping", b"", want_reply=True)
    pair.say("client", login_request(), ping, b"\xc8", ping)
    assert pair.server.packetizer.held
    assert pair.heard["server"][-1] == login_request()
    assert not pair.server.packetizer.out
    pair.server.answer_login(accepted=True)
    pair.feed("server", b"")
    assert pair.events["server"][2:] == [ping, b"\xc8", ping]


def test_what_came_before_a_refusal_is_judged_like_what_came_after() -> None:
    # A hostile client hopes that its channel is opened while the password is checked.
    pair = with_puppet()
    ping = messages.global_request(b"ping", b"", want_reply=True)
    pair.say("client", login_request(), ping)
    pair.server.answer_login(accepted=False)
    with pytest.raises(ProtocolError, match="before the login"):
        pair.feed("server", b"")


def test_tries_sent_at_once_are_judged_one_after_another() -> None:
    pair = with_puppet()
    pair.say("client", *[login_request(b"user", b"guess %d" % i) for i in range(4)])
    for i in range(3):
        last = pair.events["server"][-1]
        assert last == LoginRequested("user", f"guess {i}")
        if i == 2:
            with pytest.raises(AuthenticationFailed):
                pair.server.answer_login(accepted=False)
        else:
            pair.server.answer_login(accepted=False)
            pair.feed("server", b"")
    assert len(pair.events["server"]) == 1 + MAX_LOGIN_TRIES


def test_a_login_after_the_login_is_ignored() -> None:
    # RFC 4252 section 5.1
    pair = EnginePair().run()
    count = len(answers(pair))
    pair.say("client", login_request(b"root"), login_request(method=b"none"))
    assert len(answers(pair)) == count
    assert pair.server.user == USER
    assert pair.server.may_send


def test_a_login_request_cut_short_anywhere_is_refused() -> None:
    whole = login_request(b"user", b"secret")
    for size in range(1, len(whole)):
        with pytest.raises(ProtocolError, match="cut short"):
            with_keys(verdict=True).say("client", whole[:size])
    with pytest.raises(ProtocolError, match="longer"):
        with_keys(verdict=True).say("client", whole + b"\0")


@pytest.mark.parametrize("field", ["user", "password", "service", "method"])
def test_text_in_a_login_that_is_not_utf_8_is_refused(field: str) -> None:
    with pytest.raises(ProtocolError, match="UTF-8"):
        with_keys(verdict=True).say("client", login_request(**{field: b"\xff\xfe"}))


def test_the_password_is_not_in_what_is_printed() -> None:
    event = LoginRequested("alice", "hunter2")
    assert "alice" in repr(event)
    assert "hunter2" not in repr(event)
    assert "hunter2" not in str(event)


# ---- the client's side


def test_a_refused_login_is_an_error_of_its_own() -> None:
    pair = EnginePair(verdict=False)
    with pytest.raises(AuthenticationFailed) as caught:
        pair.run()
    assert pair.failed == "client"
    assert caught.value.fatal
    assert PASSWORD not in str(caught.value)
    assert not pair.client.authenticated


@pytest.mark.parametrize("kind", [6, 51, 52, 53])
def test_a_server_cannot_answer_a_login_before_it_was_asked_for(kind: int) -> None:
    pair = with_keys()
    with pytest.raises(ProtocolError, match="before we asked"):
        pair.say("server", bytes((kind,)))
    assert not pair.client.authenticated


@pytest.mark.parametrize(
    "ignored",
    [
        pytest.param(
            b"\x35" + messages.string(b"\x1b[2J hello") + messages.string(b""), id="banner"
        ),
        pytest.param(b"\x35", id="banner-cut-short"),
        pytest.param(b"\x07" + b"\xff" * 4, id="EXT_INFO-of-2**32-1"),
        pytest.param(b"\x07\0\0\0\x01" + messages.string(b"server-sig-algs") * 2, id="EXT_INFO"),
        pytest.param(b"\x02", id="IGNORE"),
        pytest.param(b"\x04\x01" + messages.string(b"debug") * 2, id="DEBUG"),
        pytest.param(b"\x03\0\0\0\0", id="UNIMPLEMENTED"),
    ],
)
def test_what_a_server_says_besides_is_ignored(ignored: bytes) -> None:
    pair = EnginePair(verdict=None).run()
    pair.say("server", ignored)
    pair.server.answer_login(accepted=True)
    pair.run()
    assert pair.events["client"][1:] == [LoggedIn()]
    assert not pair.client.packetizer.out
    assert pair.heard["server"][-1][0] == messages.USERAUTH_REQUEST  # and nobody answered


def test_a_success_has_no_body() -> None:
    pair = EnginePair(verdict=None).run()
    with pytest.raises(ProtocolError, match="longer"):
        pair.say("server", SUCCESS + b"\0")
    assert not pair.client.authenticated


# ---- either side


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("victim", ["client", "server"])
def test_nothing_of_the_connection_protocol_is_taken_before_the_login(
    victim: Side, asked: bool
) -> None:
    for kind in range(80, 256):
        pair = EnginePair(user=USER if asked and victim == "client" else None, verdict=None).run()
        with pytest.raises(ProtocolError, match=f"message {kind} before the login"):
            pair.say(OTHER[victim], bytes((kind,)) + bytes(20))
        assert pair.failed == victim


@pytest.mark.parametrize("victim", ["client", "server"])
@pytest.mark.parametrize("body", [b"", bytes(4), bytes(40), b"\xff" * 40])
def test_no_message_but_the_right_one_logs_anybody_in(victim: Side, body: bytes) -> None:
    for kind in (*range(82), 90, 98, 128, 255):
        pair = with_keys()
        try:
            pair.say(OTHER[victim], bytes((kind,)) + body)
        except CotunError as error:
            assert isinstance(error, ProtocolError | ConnectionLost)  # noqa: PT017
        assert not pair.engines[victim].authenticated
        assert [type(event) for event in pair.events[victim]] == [KeysAgreed]


@pytest.mark.parametrize("victim", ["client", "server"])
def test_packets_are_bounded_more_tightly_until_the_login(victim: Side) -> None:
    pair = with_keys(verdict=True)
    assert pair.engines[victim].packetizer.max_packet_in == MAX_PACKET_BEFORE_LOGIN
    pair.say(OTHER[victim], b"\x02" + bytes(34_000))
    pair.client.log_in(USER, PASSWORD)
    pair.run()
    assert pair.engines[victim].packetizer.max_packet_in == MAX_PACKET_IN
    pair.say(OTHER[victim], b"\x02" + bytes(200_000))
    pair = with_keys()
    with pytest.raises(ProtocolError, match="length 36016"):
        pair.say(OTHER[victim], b"\x02" + bytes(36_000))


def test_a_login_can_only_be_asked_for_once_the_host_key_is_known() -> None:
    pair = EnginePair(user=None)
    with pytest.raises(AssertionError):
        pair.client.log_in("user", "secret")
    assert b"secret" not in take_out(pair.client)
