"""UDP flows of a session: they count as connections; their queues and tables have bounds."""

from __future__ import annotations

import pytest

from cotun_trio.forwards import udp_flows
from cotun_trio.forwards.flows import Flows
from cotun_trio.forwards.quota import Quota
from cotun_trio.forwards.udp_flows import ITEM, MAX_SOURCES, MAX_WAITING, Slots, Sources, Waiting
from cotun_trio.protocol.target import Target

DNS, WEB = Target("dns", 53, udp=True), Target("web", 80)


class FakeFlow:
    """A flow without a socket."""

    def __init__(self) -> None:
        self.ends = 0

    def end(self) -> None:
        """See `udp_flows.UdpFlow`."""
        self.ends += 1


def session(quota: Quota | None = None, *, limit: int = 0, channels: int = 1) -> Flows:
    """Return what runs in a session with so many UDP channels."""
    running = Flows(quota or Quota(0), limit=limit)
    for _ in range(channels):
        running.begin(DNS, endless=True)
    return running


def begun(running: Flows, count: int) -> list[FakeFlow]:
    """Begin with flows for which there is room."""
    fakes = [FakeFlow() for _ in range(count)]
    for flow in fakes:
        assert running.udp.begin(flow)
    return fakes


def ends(flows_: list[FakeFlow]) -> list[int]:
    """Return how often each was ended from outside."""
    return [flow.ends for flow in flows_]


def test_each_flow_counts_as_a_connection_until_it_ends() -> None:
    running = session()
    count = running.quota.count
    first, _, _ = begun(running, 3)
    assert count.own == 1 + 3
    running.udp.ended(first)
    running.udp.ended(first)  # again
    assert count.own == 1 + 2
    for _ in range(3):
        running.udp.end_longest_idle()
    assert count.own == 1


def test_in_a_full_session_the_longest_idle_flow_makes_room_for_the_next_one() -> None:
    running = session(limit=5, channels=2)
    flows = begun(running, 3)
    running.udp.used(flows[0])
    begun(running, 1)
    assert ends(flows) == [0, 1, 0]
    assert len(running.udp) == 3


def test_in_a_full_session_the_longest_idle_flow_makes_room_for_a_connection() -> None:
    running = session(limit=4)
    flows = begun(running, 3)
    assert running.make_room()
    running.begin(WEB)
    assert ends(flows) == [1, 0, 0]
    assert running.quota.count.own == 4


def test_in_a_session_full_of_connections_there_is_no_flow() -> None:
    running = session(limit=2, channels=2)
    assert not running.udp.begin(FakeFlow())
    assert len(running.udp) == 0
    assert running.make_room()  # how many channels there may be, the connection knows


def test_where_the_quota_is_used_up_the_own_longest_idle_flow_goes_and_nobody_elses() -> None:
    quota = Quota(6)
    mine, theirs = session(quota), session(quota)
    my_flows, their_flows = begun(mine, 2), begun(theirs, 2)
    begun(theirs, 1)
    assert (ends(my_flows), ends(their_flows)) == ([0, 0], [1, 0])
    assert mine.make_room()
    assert (ends(my_flows), ends(their_flows)) == ([1, 0], [1, 0])


def test_without_flows_a_used_up_quota_has_no_room() -> None:
    running = session(Quota(1))
    assert not running.make_room()
    assert not running.udp.begin(FakeFlow())


# ---- queues and tables


def test_slots_are_taken_as_long_as_there_are_enough() -> None:
    slots = Slots(3)
    assert slots.take(2)
    assert not slots.take(2)
    assert slots.take()
    slots.give_back(2)
    assert slots.take(2)


def test_so_many_datagrams_wait_and_no_more_and_in_their_order() -> None:
    waiting = Waiting(Slots(10**9))
    for number in range(MAX_WAITING + 1):
        waiting.add("a", b"%d" % number)
    assert waiting.take() == [("a", b"%d" % number) for number in range(MAX_WAITING)]
    assert len(waiting) == 0


def test_the_bytes_that_wait_are_limited_in_the_whole_session_empty_datagrams_included() -> None:
    room = Slots(3 * ITEM + 10)
    one, other = Waiting(room), Waiting(room)
    one.add("a", b"")
    other.add("b", bytes(10))
    one.add("a", b"x")
    assert (len(one), len(other)) == (1, 1)
    other.add("b", b"")
    assert len(other) == 2
    other.take()
    one.add("a", b"x")
    assert len(one) == 2


def test_a_source_is_known_at_the_listener_that_it_sent_to() -> None:
    sources = Sources()
    sources.remember(1, "a:1", ("a", 1))
    assert sources.find(1, "a:1") == ("a", 1)
    assert sources.find(2, "a:1") is None


def test_the_source_that_has_been_silent_for_longest_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(udp_flows, "MAX_SOURCES", 3)
    sources = Sources()
    for source in ("a", "b", "c", "a", "d"):
        sources.remember(1, source, (source, 1))
    assert [source for source in "abcd" if sources.find(1, source)] == ["a", "c", "d"]


@pytest.mark.slow
def test_time_does_not_grow_with_the_number_of_flows_and_sources() -> None:
    # What walks through a table here takes minutes.
    running = session(limit=16_384)
    sources = Sources()
    some = begun(running, 16_383)
    for number in range(200_000):
        running.udp.used(some[number % len(some)])
        sources.remember(1, str(number % (2 * MAX_SOURCES)), ("a", number))
    begun(running, 50_000)
    assert len(running.udp) == 16_383
