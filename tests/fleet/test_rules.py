"""The rules of one node, step by step, by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest

from cotun_trio.fleet import entries
from cotun_trio.fleet.claims import MAX_WISHES
from cotun_trio.fleet.effects import Give, Refuse, Yield
from cotun_trio.fleet.leases import RENEWAL
from cotun_trio.fleet.operations import (
    Granted,
    Outdated,
    Read,
    Renew,
    Renewed,
    Restate,
    Retold,
    Statement,
    Survey,
    Surveyed,
    Write,
    Written,
)
from cotun_trio.fleet.records import Holder, Rank, Route, Wish
from cotun_trio.fleet.rules import Rules
from cotun_trio.fleet.statements import MAX_CHANGES
from tests.support.fleet import node_facts

if TYPE_CHECKING:
    from cotun_trio.fleet.operations import (
        Operation,
    )

PLACE = "tcp/0.0.0.0:8080"


class Hand:
    """A node at time 0, whose directory is us."""

    def __init__(self, **changes: bool) -> None:
        self.rules = Rules(node_facts("a"), 0.0, **changes)
        self.now = 0.0
        self.epoch = 0
        self.version = 0
        self.next: Operation | None = None
        self.renewals: list[Renew] = []
        self.renew()

    def take(self) -> Operation | None:
        """Return what it wants to have done."""
        taken, self.next = self.next, None
        return taken or self.rules.next_operation(self.now)

    def renew(self, position: int = 0, life: str = "1") -> None:
        """Answer the renewal that is due."""
        operation = self.take()
        assert isinstance(operation, Renew)
        self.renewals.append(operation)
        answer = Renewed(self.version, self.epoch, position, life)
        self.rules.renewed(operation, answer, self.now)

    def grant(self) -> Write:
        """Do the write that is due, and give all that it wishes for."""
        operation = self.take()
        assert isinstance(operation, Write)
        outcomes = []
        for _ in operation.claims:
            self.epoch += 1
            outcomes.append(Granted(self.epoch))
        self.version += 1
        self.rules.written(operation, Written(self.version, self.epoch, tuple(outcomes)), self.now)
        return operation

    def restate(self) -> list[Restate]:
        """Have all parts of a statement made."""
        parts = []
        while isinstance(operation := self.take(), Restate):
            parts.append(operation)
            self.rules.restated(operation, Retold())
        self.next = operation
        return parts

    def wish(self, session: int, place: str = PLACE) -> None:
        """Have a session want a place."""
        self.rules.wish(Wish(place, session, "alice", mark="m1"), self.now)

    def survey(self, *names: str, position: int = 0) -> None:
        """Answer a survey with these nodes."""
        assert self.rules.view.next_reading(self.now) == Survey()
        nodes = tuple((node_facts(name), 0) for name in names)
        self.rules.view.surveyed(Surveyed("1", position, 0, nodes, {}, {}), self.now)

    def hear(self, *news: entries.Entry) -> None:
        """Let it hear entries, one after the other."""
        position = self.rules.view.position
        assert position is not None
        self.rules.view.heard(list(enumerate(news, position + 1)), self.now)


def test_one_operation_is_in_flight_at_a_time() -> None:
    hand = Hand()
    hand.wish(1)
    assert hand.take() is not None
    hand.wish(2, "other")
    assert hand.take() is None


def test_wishes_that_have_waited_go_in_one_operation_which_is_bounded() -> None:
    hand = Hand()
    for number in range(MAX_CHANGES):
        hand.wish(number, f"tcp/x:{number}")
    sizes = [len(hand.grant().claims) for _ in range(4)]
    assert sizes == [MAX_CHANGES // 4] * 4
    assert sum(isinstance(effect, Give) for effect in hand.rules.take_effects()) == MAX_CHANGES


def test_too_many_wishes_are_refused() -> None:
    hand = Hand()
    for number in range(MAX_WISHES + 1):
        hand.wish(number, f"tcp/x:{number}")
    assert hand.rules.take_effects() == [
        Refuse(f"tcp/x:{MAX_WISHES}", MAX_WISHES, "too many wishes at a time")
    ]


def test_after_a_failure_the_lease_comes_first_and_then_the_whole_statement() -> None:
    hand = Hand()
    hand.wish(1)
    hand.grant()
    hand.rules.release(PLACE, 1)
    hand.wish(2, "other")
    write = hand.take()
    assert isinstance(write, Write)
    assert write.released == ((PLACE, 1),)
    hand.rules.failed(hand.now)
    assert hand.take() is None
    hand.now = 1.0
    hand.renew()
    parts = hand.restate()
    assert [(part.routes, part.first, part.last) for part in parts] == [((), True, True)]
    assert parts[0].version > write.version + 1  # that may have been done
    assert [wish.place for wish, _ in hand.grant().claims] == ["other"]


def test_a_large_statement_is_made_in_parts() -> None:
    hand = Hand()
    for number in range(MAX_CHANGES + 10):
        hand.wish(number, f"tcp/x:{number}")
    while len(list(hand.rules.claims.all_own())) < MAX_CHANGES + 10:
        hand.grant()
    for number in range(MAX_CHANGES):
        hand.rules.counts.change(f"s {number}", 1)
    hand.version = 0  # the directory has been emptied
    hand.now = RENEWAL
    hand.renew()
    parts = hand.restate()
    assert [len(part.routes) + len(part.counts) for part in parts] == [MAX_CHANGES, MAX_CHANGES, 10]
    assert [(part.first, part.last) for part in parts] == [(1, 0), (0, 0), (0, 1)]
    assert len({part.version for part in parts}) == 1


def test_a_part_that_fails_has_all_parts_made_again() -> None:
    hand = Hand()
    hand.wish(1)
    hand.grant()
    hand.version, hand.now = 0, RENEWAL
    hand.renew()
    first = hand.take()
    assert isinstance(first, Restate)
    hand.rules.restated(first, Outdated(9))
    hand.renew()
    assert [part.version for part in hand.restate()] == [10]


def test_others_are_told_of_a_load_only_where_it_has_changed_by_much() -> None:
    hand = Hand()
    for load in (80, 85, 89, 91, 30, 0, 0):
        hand.rules.set_load(load)
        hand.now += RENEWAL
        hand.renew()
    told = [renewal.facts.load for renewal in hand.renewals if renewal.announce]
    assert told == [0, 80, 91, 30, 0]
    assert [renewal.facts.load for renewal in hand.renewals][-2:] == [0, 0]


def test_draining_is_told_at_once() -> None:
    hand = Hand()
    hand.rules.drain()
    hand.renew()
    assert hand.renewals[-1].announce
    assert hand.renewals[-1].facts.draining


def test_a_gap_in_the_stream_has_everything_surveyed() -> None:
    hand = Hand()
    hand.survey("b", position=7)
    hand.rules.view.heard([(8, entries.NodeGone("c")), (10, entries.NodeGone("b"))], 0.0)
    assert hand.rules.view.position is None
    assert "b" in hand.rules.view.table.nodes
    hand.survey("b", position=10)
    assert hand.rules.view.position == 10


def test_an_entry_that_comes_twice_counts_once() -> None:
    hand = Hand()
    hand.survey("b", position=7)
    opened = entries.Changed("b", 1, (Route(PLACE, 1, "", "", 1),))
    closed = entries.Changed("b", 2, (), ((PLACE, 1),))
    hand.rules.view.heard([(8, opened), (9, closed), (8, opened), (9, closed)], 0.0)
    assert hand.rules.view.position == 9
    assert len(hand.rules.view.table) == 0


def test_an_entry_that_does_not_fit_has_the_statement_read() -> None:
    hand = Hand()
    hand.survey("b")
    route = Route(PLACE, 1, "", "", 1)
    hand.hear(entries.Changed("b", 3, (route,)))
    assert hand.rules.view.next_reading(0.0) == Read("b")
    hand.rules.view.stated("b", Statement(3, (route,), {"s x": 1}))
    assert hand.rules.view.next_reading(0.0) is None
    assert hand.rules.view.table.nodes["b"].version == 3
    assert hand.rules.counts.of("s x") == 1


@pytest.mark.parametrize(("position", "life"), [(6, "1"), (7, "2")])
def test_a_directory_that_has_gone_back_or_lives_anew_is_surveyed(position: int, life: str) -> None:
    hand = Hand()
    hand.survey(position=7)
    hand.now = RENEWAL
    hand.renew(position, life)
    assert hand.rules.view.position is None


def test_an_answer_that_is_older_than_the_last_entry_is_no_sign_of_a_loss() -> None:
    hand = Hand()
    hand.survey("b", position=7)
    hand.now = RENEWAL
    operation = hand.take()
    assert isinstance(operation, Renew)
    hand.hear(entries.NodeGone("b"))
    hand.rules.renewed(operation, Renewed(0, 0, 7, "1"), hand.now)
    assert hand.rules.view.position == 8


def test_a_stream_that_says_nothing_is_surveyed_after_a_lease() -> None:
    hand = Hand()
    hand.survey(position=7)
    surveyed_at = []
    for step in range(1, 6):
        hand.now = step * RENEWAL
        hand.renew(position=9)
        if hand.rules.view.position is None:
            surveyed_at.append(step)
            hand.survey(position=9)
    assert surveyed_at == [5]


def test_a_route_elsewhere_with_a_later_epoch_ends_ours_and_an_earlier_one_does_not() -> None:
    hand = Hand()
    hand.survey("b")
    hand.epoch = 4
    hand.wish(1)
    hand.grant()
    hand.rules.take_effects()
    hand.hear(entries.Changed("b", 1, (Route(PLACE, 9, "", "", 4),)))
    assert hand.rules.take_effects() == []
    hand.hear(entries.Changed("b", 2, (Route(PLACE, 9, "", "", 6),)))
    (effect,) = hand.rules.take_effects()
    assert isinstance(effect, Yield)
    assert (effect.place, effect.session) == (PLACE, 1)


@pytest.mark.parametrize(
    ("group", "user", "given"),
    [("g", "alice", True), ("", "alice", False), ("g", "bob", False), ("h", "alice", False)],
)
def test_a_shared_place_is_for_its_group_and_its_user(group: str, user: str, given: bool) -> None:
    hand = Hand()
    hand.survey("b")
    hand.hear(entries.Changed("b", 1, (Route(PLACE, 9, "alice", "g", 1),)))
    hand.rules.wish(Wish(PLACE, 1, user, group), 0.0)
    assert (hand.take() is not None) is given
    assert bool(hand.rules.take_effects()) is not given


def test_a_place_that_is_known_to_have_an_owner_elsewhere_is_claimed_with_that_word() -> None:
    hand = Hand()
    hand.survey("b")
    hand.hear(entries.Changed("b", 1, (Route(PLACE, 9, "alice", "", 1),)))
    hand.wish(1)
    hand.wish(2, "other")
    operation = hand.take()
    assert isinstance(operation, Write)
    assert [known for _, known in operation.claims] == [True, False]


def test_the_highest_epoch_that_was_seen_goes_with_each_renewal() -> None:
    hand = Hand()
    hand.survey("b")
    hand.hear(entries.Changed("b", 1, (Route(PLACE, 9, "alice", "", 77),)))
    hand.now = RENEWAL
    hand.renew()
    assert hand.renewals[-1].epoch == 77


def test_counts_are_reported_once_a_second() -> None:
    hand = Hand()
    hand.rules.counts.change("s x", 1)
    assert hand.grant().counts == {"s x": 1}
    hand.rules.counts.change("s x", 1)
    hand.now = 0.5
    assert hand.take() is None
    assert hand.rules.next_deadline() == 1.0
    hand.now = 1.0
    assert hand.grant().counts == {"s x": 2}


def test_a_revocation_is_done_once_however_often_it_is_told() -> None:
    hand = Hand()
    hand.survey(position=3)
    hand.hear(entries.Revoked("alice", 5), entries.Revoked("alice", 5), entries.Revoked("bob", 5))
    hand.rules.view.lose_position()
    assert hand.rules.view.next_reading(0.0) == Survey()
    hand.rules.view.surveyed(
        Surveyed("1", 9, 0, (), {"192.0.2.1": 3.0}, {"alice": 5, "bob": 6}), 1.0
    )
    assert [attrs.astuple(effect) for effect in hand.rules.take_effects()] == [  # type: ignore[arg-type]
        ("alice",), ("bob",), ("bob",)
    ]  # fmt: skip
    assert hand.rules.bars.barred("192.0.2.1", 2.0) == 2.0


def test_a_bar_holds_here_at_once_and_is_told() -> None:
    hand = Hand()
    hand.rules.bar("192.0.2.1", 60.0, 0.0)
    assert hand.rules.bars.barred("192.0.2.1", 0.0) == 60.0
    assert hand.grant().entries == (entries.Barred("192.0.2.1", 60.0),)


def test_a_different_users_file_is_told_of_again_when_it_has_changed() -> None:
    hand = Hand()
    hand.survey("b")
    for users in ("x", "x", "y", ""):
        hand.hear(entries.NodeChanged(node_facts("b", users=users), 0))
    hand.rules.set_users("z")
    hand.hear(entries.NodeChanged(node_facts("b", users=""), 0))
    told = [effect.facts.users for effect in hand.rules.take_effects()]  # type: ignore[attr-defined]
    assert told == ["x", "y", ""]


def test_a_node_that_comes_with_a_statement_has_it_read() -> None:
    hand = Hand()
    hand.survey()
    hand.hear(entries.NodeChanged(node_facts("b"), 4))
    assert hand.rules.view.next_reading(0.0) == Read("b")


def test_a_node_that_is_making_its_statement_is_read_when_that_is_done() -> None:
    hand = Hand()
    hand.survey()
    hand.hear(entries.NodeChanged(node_facts("b"), -1))
    assert hand.rules.view.next_reading(0.0) is None
    hand.hear(entries.Restated("b", 4))
    assert hand.rules.view.next_reading(0.0) == Read("b")
    hand.rules.view.stated("b", Statement(-1))  # and it begins anew
    assert hand.rules.view.next_reading(0.0) is None


def test_a_place_that_cannot_be_claimed_back_is_lost() -> None:
    hand = Hand()
    hand.wish(1)
    hand.grant()
    hand.version, hand.now = 0, RENEWAL
    hand.renew()
    part = hand.take()
    assert isinstance(part, Restate)
    hand.rules.take_effects()
    hand.rules.restated(part, Retold(((PLACE, Holder(Rank(9, "b"), 7, "bob", "")),)))
    (effect,) = hand.rules.take_effects()
    assert isinstance(effect, Yield)
    assert not hand.rules.claims.routes(PLACE)
    hand.now += RENEWAL
    hand.version = part.version
    hand.renew()
    assert hand.renewals[-1].epoch == 9


def test_what_is_released_while_the_statement_is_doubted_is_not_released_again() -> None:
    hand = Hand()
    hand.wish(1)
    hand.grant()
    hand.rules.release(PLACE, 1)
    hand.version, hand.now = 0, RENEWAL
    hand.renew()
    assert [part.routes for part in hand.restate()] == [()]
    assert hand.take() is None
