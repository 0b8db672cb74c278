"""The sessions of a user, counted and limited."""

from __future__ import annotations

from cotun_trio.access.startups import OwnSourceCounts
from cotun_trio.access.user_sessions import UserSessions


def test_each_user_has_so_many() -> None:
    sessions = UserSessions(2, OwnSourceCounts())
    assert all(sessions.enter(user) for user in ("alice", "alice", "bob", ""))
    assert not sessions.enter("alice")
    assert sessions.enter("bob")
    assert not sessions.enter("bob")


def test_a_place_is_given_back_once() -> None:
    counts = OwnSourceCounts()
    sessions = UserSessions(2, counts)
    first = sessions.enter("alice")
    assert first
    assert sessions.enter("alice")
    first.leave()
    first.leave()
    assert counts.of("alice") == 1
    assert sessions.enter("alice")
    assert not sessions.enter("alice")


def test_sessions_at_other_workers_count_too() -> None:
    counts = OwnSourceCounts()
    mine, theirs = UserSessions(1, counts), UserSessions(1, counts)
    assert theirs.enter("alice")
    assert not mine.enter("alice")


def test_zero_is_no_limit_on_sessions() -> None:
    counts = OwnSourceCounts()
    sessions = UserSessions(0, counts)
    assert all(sessions.enter("alice") for _ in range(1000))
    assert counts.of("alice") == 1000


def test_the_limit_is_for_users_only() -> None:
    sessions = UserSessions(1, OwnSourceCounts())
    assert all(sessions.enter("source 192.0.2.1", limited=False) for _ in range(10))


def test_where_places_are_scarce_each_owner_has_one() -> None:
    sessions = UserSessions(0, OwnSourceCounts())
    first = sessions.enter("alice", scarce=True)
    assert first
    assert not sessions.enter("alice", scarce=True)
    assert sessions.enter("bob", scarce=True)
    first.leave()
    assert sessions.enter("alice", scarce=True)
