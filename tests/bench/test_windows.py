"""Windows of datagrams: what is under way, what gets a credit, and what counts as lost."""

from __future__ import annotations

import pytest

from bench.datagram_targets import Source
from bench.datagrams import Mark, compare
from bench.processes import BenchError
from bench.windows import (
    ASK,
    CREDIT,
    DATA,
    EVERY,
    HEAD,
    MOST_SILENCES,
    STOP,
    WINDOW,
    Arrivals,
    Sender,
)

RUN, SIZE = 7, 64
HERE, ELSEWHERE = ("127.0.0.1", 1), ("127.0.0.1", 2)


class Sent:
    """What was sent, as numbers."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.addresses: list[object] = []

    def __call__(self, data: bytearray, address: object = None) -> None:
        kind, run, number, _ = HEAD.unpack_from(data)
        assert (kind, run, len(data)) == (DATA, RUN, SIZE)
        self.numbers.append(number)
        self.addresses.append(address)


@pytest.fixture
def sent() -> Sent:
    """Give what a sender or a source has sent."""
    return Sent()


@pytest.fixture
def sender(sent: Sent) -> Sender:
    """Give a sender that has not sent anything."""
    return Sender(RUN, bytearray(SIZE), sent)


# ---- the receiver


def test_the_first_datagram_gets_a_credit_and_then_each_eighth() -> None:
    arrivals, credited = Arrivals(RUN), []
    for number in range(3 * EVERY):
        if arrivals.take(number):
            arrivals.credit()
            credited.append(number)
    assert credited == [0, EVERY, 2 * EVERY]


def test_a_credit_is_due_for_lost_datagrams_too_and_tells_how_many_came() -> None:
    arrivals = Arrivals(RUN)
    arrivals.take(0)
    arrivals.credit()
    assert arrivals.take(EVERY)
    assert HEAD.unpack(arrivals.credit()) == (CREDIT, RUN, EVERY + 1, 2)


def test_a_datagram_that_is_late_counts() -> None:
    arrivals = Arrivals(RUN)
    for number in (0, 2, 1):
        arrivals.take(number)
    assert (arrivals.seen, arrivals.count) == (3, 3)


# ---- the sender


def test_one_datagram_opens_the_flow_before_the_window_is_filled(
    sender: Sender, sent: Sent
) -> None:
    sender.fill()
    assert sent.numbers == [0]
    sender.take_credit(1)
    sender.fill()
    assert sent.numbers == list(range(1 + WINDOW))


def test_a_credit_makes_room_for_what_it_has_seen(sender: Sender, sent: Sent) -> None:
    sender.take_credit(0)
    sender.fill()
    sender.take_credit(EVERY)
    sender.fill()
    assert sent.numbers == list(range(WINDOW + EVERY))
    sender.take_credit(1)  # an older one, which makes no room
    sender.fill()
    assert len(sent.numbers) == WINDOW + EVERY


def test_what_is_under_way_is_lost_after_a_silence_and_others_are_sent(
    sender: Sender, sent: Sent
) -> None:
    sender.take_credit(0)
    sender.fill()
    assert sender.give_up()
    sender.fill()
    assert sent.numbers == list(range(2 * WINDOW))


def test_there_is_hope_until_many_silences_come_one_after_the_other(sender: Sender) -> None:
    for _ in range(MOST_SILENCES - 1):
        assert sender.give_up()
    sender.take_credit(1)
    for _ in range(MOST_SILENCES - 1):
        assert sender.give_up()
    assert not sender.give_up()


# ---- the source


def test_the_source_sends_to_who_asked_for_credits_from_elsewhere(sent: Sent) -> None:
    source = Source(sent)
    source.take(ASK, RUN, SIZE, HERE)
    assert sent.numbers == [0]
    source.take(CREDIT, RUN, 1, ELSEWHERE)
    assert sent.numbers == list(range(1 + WINDOW))
    assert set(sent.addresses) == {HERE}


def test_a_question_that_comes_twice_begins_nothing_anew(sent: Sent) -> None:
    source = Source(sent)
    for _ in range(2):
        source.take(ASK, RUN, SIZE, HERE)
    assert sent.numbers == [0]


@pytest.mark.parametrize(("kind", "run"), [(CREDIT, RUN - 1), (STOP, RUN - 1)])
def test_the_source_ignores_what_belongs_to_an_earlier_run(kind: int, run: int, sent: Sent) -> None:
    source = Source(sent)
    source.take(ASK, RUN, SIZE, HERE)
    source.take(kind, run, WINDOW, ELSEWHERE)
    assert sent.numbers == [0]
    source.take(CREDIT, RUN, 1, ELSEWHERE)
    assert len(sent.numbers) == 1 + WINDOW


def test_the_source_stops_when_told_and_when_the_meter_has_gone(sent: Sent) -> None:
    source = Source(sent)
    source.take(ASK, RUN, SIZE, HERE)
    source.take(STOP, RUN, 0, ELSEWHERE)
    source.be_silent()
    assert sent.numbers == [0]
    source.take(ASK, RUN, SIZE, HERE)
    for _ in range(2 * MOST_SILENCES):
        source.be_silent()
    assert len(sent.numbers) == 1 + MOST_SILENCES


# ---- what a meter makes of it


def test_a_rate_and_a_loss_are_those_between_two_marks() -> None:
    before, after = Mark(1.0, 100, 90, (1.0, 2.0)), Mark(3.0, 300, 240, (1.5, 2.25))
    assert compare(before, after) == (75.0, 0.25, 0.005)


def test_the_direct_way_has_no_cpu_time_of_its_own() -> None:
    assert compare(Mark(1.0, 1, 1, ()), Mark(2.0, 11, 11, ())) == (10.0, 0.0, None)


def test_a_time_without_arrivals_has_no_rate() -> None:
    with pytest.raises(BenchError, match="no datagram"):
        compare(Mark(1.0, 1, 1, ()), Mark(2.0, 9, 1, ()))
