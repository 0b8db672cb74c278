"""The sessions of a user, counted and limited."""

from __future__ import annotations

from cotun_trio.access.startups import OwnTally
from cotun_trio.access.user_sessions import UserSessions


def test_each_user_has_so_many() -> None:
    sessions = UserSessions(2, OwnTally())
    assert all(sessions.enter(user) for user in ("alice", "alice", "bob", ""))
    assert not sessions.enter("alice")
    assert sessions.enter("bob")
    assert not sessions.enter("bob")


def test_a_place_is_given_back_once() -> None:
    tally = OwnTally()
    sessions = UserSessions(2, tally)
    first = sessions.enter("alice")
    assert first
    assert sessions.enter("alice")
    first.leave()
    first.leave()
    assert tally.of("alice") == 1
    assert sessions.enter("alice")
    assert not sessions.enter("alice")


def test_sessions_at_other_workers_count_too() -> None:
    tally = OwnTally()
    mine, theirs = UserSessions(1, tally), UserSessions(1, tally)
    assert theirs.enter("alice")
    assert not mine.enter("alice")


def test_zero_is_no_limit_on_sessions() -> None:
    tally = OwnTally()
    sessions = UserSessions(0, tally)
    assert all(sessions.enter("alice") for _ in range(1000))
    assert tally.of("alice") == 1000


def test_the_limit_is_for_users_only() -> None:
    sessions = UserSessions(1, OwnTally())
    assert all(sessions.enter("source 192.0.2.1", limited=False) for _ in range(10))


def test_where_places_are_scarce_each_owner_has_one() -> None:
    sessions = UserSessions(0, OwnTally())
    first = sessions.enter("alice", scarce=True)
    assert first
    assert not sessions.enter("alice", scarce=True)
    assert sessions.enter("bob", scarce=True)
    first.leave()
    assert sessions.enter("alice", scarce=True)
