"""Logins at a server: who guesses is slowed down and barred, and nobody else notices."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import trio
import trio.testing

from cotun_trio.access.credentials import Credentials
from cotun_trio.access.users import User, Users
from cotun_trio.errors import AuthenticationFailed, Refused
from cotun_trio.logs import Limits, get_logger
from cotun_trio.server.accounts import Accounts
from cotun_trio.server.logins import Logins, OwnFailures
from tests.support.log_watch import watch_logs
from tests.support.peer import peer_of, upgrade_request
from tests.support.sockets import until
from tests.support.targets import background, connect, receive_all
from tests.support.tunnel import running_server
from tests.support.users import ALICE, peer_as

WRONG = Credentials("alice", "wrong")
HASHED = Credentials("alice", "$2b$04$hwr9Zat359TSaZY3oKro5ubBffQ0EuAvFDaqgaJWCOCEM8OEZ6RR.")
LOG = get_logger("server")


def logins(auth: Credentials | None = ALICE, per_minute: int = 10) -> tuple[Accounts, Logins]:
    """Return those of a server with one user."""
    accounts = Accounts(auth, None, LOG)
    return accounts, Logins(accounts, OwnFailures(per_minute))


async def judged(door: Logins, password: str, host: str = "192.0.2.1") -> bool:
    """Return whether alice gets in."""
    try:
        return await door.judge(host, "alice", password, LOG) is not None
    except Refused:
        return False


# ---- the penalties


async def test_an_answer_takes_longer_with_each_failure(
    autojump: trio.testing.MockClock,
) -> None:
    _, door = logins()
    took = []
    for _ in range(6):
        before = trio.current_time()
        assert not await judged(door, "wrong")
        took.append(trio.current_time() - before)
    assert took == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0])


async def test_a_good_login_from_elsewhere_is_not_delayed(
    autojump: trio.testing.MockClock,
) -> None:
    _, door = logins()
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(judged, door, "wrong")
        await trio.testing.wait_all_tasks_blocked()
        before = trio.current_time()
        for host in ("192.0.2.2", "2001:db8::1"):
            assert await judged(door, "secret", host)
        assert trio.current_time() == before
    assert not door._turns


async def test_ten_failures_bar_a_source_even_with_the_right_password(
    autojump: trio.testing.MockClock,
) -> None:
    _, door = logins()
    async with watch_logs() as log:
        for _ in range(10):
            assert not await judged(door, "wrong")
        assert door.barred("192.0.2.1")
        assert door.barred("::ffff:192.0.2.1")
        assert not door.barred("192.0.2.2")
        with pytest.raises(Refused, match=r"^barred for 5"):  # not as a wrong password: it passes
            await door.judge("192.0.2.1", "alice", "secret", LOG)
    assert len(log.find("^Authentication failed from 192.0.2.1 for user 'alice'$")) == 10
    assert len(log.find("^Too many failures: 192.0.2.1 is barred for 1m")) == 1
    await trio.sleep(60)
    assert await judged(door, "secret")


async def test_other_lines_of_a_source_do_not_hide_its_failed_logins(
    autojump: trio.testing.MockClock,
) -> None:
    _, door = logins()
    async with watch_logs() as log:
        limited = LOG.within(peer="x").limited(Limits(LOG).of("192.0.2.1"))
        for _ in range(1000):
            limited.info("noise")
        for _ in range(10):
            assert await door.judge("192.0.2.1", "alice", "wrong", limited) is None
    assert len(log.find("Authentication failed from 192.0.2.1 for user 'alice'$")) == 10
    assert len(log.find("Too many failures")) == 1


async def test_who_is_barred_while_waiting_for_a_turn_is_not_checked(
    autojump: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = []
    verify = Users.verify

    def noting(users: Users, name: str, password: str) -> User | None:
        checked.append(password)
        return verify(users, name, password)

    monkeypatch.setattr(Users, "verify", noting)
    _, door = logins()
    async with trio.open_nursery() as nursery:
        for number in range(1000):
            nursery.start_soon(judged, door, f"wrong {number}")
    assert len(checked) == 10


async def test_all_of_a_network_counts_as_one_source(autojump: trio.testing.MockClock) -> None:
    _, door = logins()
    for number in range(10):
        await judged(door, "wrong", f"2001:db8::{number}")
    assert door.barred("2001:db8::ffff")
    assert not door.barred("2001:db8:0:1::1")


async def test_zero_failures_are_no_limit(autojump: trio.testing.MockClock) -> None:
    _, door = logins(per_minute=0)
    before = trio.current_time()
    for _ in range(100):
        assert not await judged(door, "wrong")
    assert trio.current_time() == before
    assert await judged(door, "secret")


async def test_without_users_nobody_is_judged(autojump: trio.testing.MockClock) -> None:
    _, door = logins(auth=None)
    assert await judged(door, "whatever")


# ---- hashes


async def test_a_hash_is_checked_while_the_loop_goes_on() -> None:
    _, door = logins(HASHED)
    steps = 0

    async def go_on() -> None:
        nonlocal steps
        while True:
            await trio.lowlevel.checkpoint()
            steps += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_on)
        assert await judged(door, "hunter2")
        nursery.cancel_scope.cancel()
    assert steps > 1


async def test_who_stops_being_a_user_while_the_hash_is_checked_is_not_let_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accounts, door = logins(HASHED)
    verify = Users.verify
    checks = 0

    def slow(users: Users, name: str, password: str) -> User | None:
        nonlocal checks
        checks += 1
        accounts.users = Users([User("bob", next(iter(users._by_name.values())).secret)])
        return verify(users, name, password)

    monkeypatch.setattr(Users, "verify", slow)
    async with background() as nursery:
        # Never judged: each answer is about users that are others by then.
        nursery.start_soon(judged, door, "hunter2")
        await until(lambda: checks == 3)
        assert len(nursery.child_tasks) == 1
    monkeypatch.undo()
    assert not await judged(door, "hunter2", "192.0.2.9")


async def test_nothing_of_a_connection_is_heard_while_its_password_is_checked() -> None:
    async with (
        running_server(auth=HASHED) as server,
        peer_of(server.addresses[0], "keyed") as peer,
    ):
        # In one write: the login, and what only somebody who is in may say.
        peer.engine.log_in("alice", "hunter2")
        answer = functools.partial(peer.send_config)
        assert await answer() == b"\x51"


# ---- at the door


async def test_who_is_barred_gets_429_with_the_time_to_wait_and_others_get_in(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with running_server(auth=ALICE, max_auth_failures=2) as server, watch_logs() as log:
        address = server.addresses[0]
        for _ in range(2):
            with pytest.raises(AuthenticationFailed):
                async with peer_as(WRONG, address):
                    pass
        await log.wait_for("is barred for")
        async with await connect(address) as stream:
            await stream.send_all(upgrade_request())
            answer = await receive_all(stream)
        assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
        assert b"\r\nRetry-After: 60\r\n" in answer
        async with await connect(address) as stream:  # who watches the server still can
            await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await receive_all(stream)).endswith(b"OK\n")
        await trio.sleep(61)
        async with peer_as(ALICE, address):
            pass


@pytest.mark.parametrize("limits", [{"max_startups": 2}, {"max_startups_per_source": 2}])
async def test_too_many_connections_that_have_not_logged_in_are_closed_at_once(
    limits: dict[str, Any],
) -> None:
    async with running_server(auth=ALICE, **limits) as server, watch_logs() as log:
        address = server.addresses[0]
        async with (
            peer_as(ALICE, address),
            peer_as(ALICE, address),
        ):
            async with await connect(address) as one, peer_of(address, "keyed"):
                for _ in range(3):
                    async with await connect(address) as another:
                        assert await receive_all(another) == b""
                await one.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await receive_all(one)).endswith(b"OK\n")
            async with peer_as(ALICE, address):
                pass
    assert len(log.find("too many connections .*have not logged in: refusing more$")) == 1
