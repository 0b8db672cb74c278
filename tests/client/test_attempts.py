"""Attempts beside each other: when another begins, which goes on, and how all of it ends."""

from __future__ import annotations

import contextlib
import errno
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from cotun_trio.client.attempts import MAX_BESIDE, SILENCE, Attempts
from cotun_trio.client.session import Stage
from cotun_trio.errors import (
    ConnectionLost,
    DialFailed,
    ProtocolError,
    UpgradeRefused,
    UsageError,
)
from cotun_trio.logs import get_logger
from cotun_trio.protocol.dialect import CHISEL, COTUN
from tests.support.log_watch import watch_logs
from tests.support.targets import background

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from cotun_trio.errors import CotunError
    from cotun_trio.protocol.dialect import Dialect

REFUSED = DialFailed("Connection refused", errno.ECONNREFUSED)
LOST = ConnectionLost("cut")
TIMEOUT = 30.0


class Dial:
    """One that is under way."""

    def __init__(self) -> None:
        self.began = trio.current_time()
        self.cancelled = False
        self.wire = SimpleNamespace(bytes_in=0, closed=False)
        self.wire.close = lambda: setattr(self.wire, "closed", True)
        self.session: Session | None = None
        self._failure: CotunError | None = None
        self._over = trio.Event()

    async def run(self) -> Any:
        """Wait for what is to happen."""
        try:
            await self._over.wait()
        except trio.Cancelled:
            self.cancelled = True
            raise
        if self._failure is not None:
            raise self._failure
        return self.wire

    def succeed(self) -> None:
        """Be connected."""
        self._over.set()

    def fail(self, failure: CotunError) -> None:
        """Come to nothing."""
        self._failure = failure
        self._over.set()

    @property
    def given_up(self) -> bool:
        """Whether it was ended, or its session was."""
        return self.cancelled or (self.session is not None and self.session.given_up)


class Session:
    """One that gets as far as it is told."""

    def __init__(self, dial: Dial, dialect: Dialect, reached: Callable[[Stage], None]) -> None:
        self.dialect = dialect
        self.reached = reached
        self.wire = dial.wire
        self.given_up = False
        self.deadline = 0.0
        self._failure: CotunError = LOST
        self._left = trio.Event()

    async def wait_left(self) -> CotunError:
        """Wait for its end."""
        await self._left.wait()
        return self._failure

    def end(self, failure: CotunError) -> None:
        """Come to its end."""
        self._failure = failure
        self._left.set()

    def fail(self, failure: CotunError) -> None:
        """Be ended by the attempts."""
        self.given_up = True
        self.end(failure)


class Network:
    """What the attempts under test use."""

    def __init__(self) -> None:
        self.dials: list[Dial] = []
        self.outcome: tuple[Any, CotunError] | None = None
        self._attempts = Attempts(
            (CHISEL, COTUN), self.dial, self.begin, get_logger("client"), timeout=TIMEOUT
        )

    async def _run(self) -> None:
        self.outcome = await self._attempts.run()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[trio.Nursery]:
        """Run the attempts to their end, or to that of the block; give their nursery."""
        async with background() as nursery:
            nursery.start_soon(self._run)
            yield nursery

    async def dial(self) -> Any:
        """Begin a connection."""
        self.dials.append(Dial())
        return await self.dials[-1].run()

    def begin(
        self, wire: Any, dialect: Dialect, deadline: float, reached: Callable[[Stage], None]
    ) -> Any:
        """Begin a session."""
        dial = next(each for each in self.dials if each.wire is wire)
        dial.session = Session(dial, dialect, reached)
        dial.session.deadline = deadline
        return dial.session

    async def connect(self, number: int) -> Session:
        """Let a dial succeed; return its session."""
        self.dials[number].succeed()
        await trio.testing.wait_all_tasks_blocked()
        session = self.dials[number].session
        assert session is not None
        return session

    @property
    def given_up(self) -> list[int]:
        """The numbers of those that were ended for another."""
        return [number for number, dial in enumerate(self.dials) if dial.given_up]


@pytest.fixture
def network() -> Network:
    """Give a network on which nothing happens by itself."""
    return Network()


async def wait(seconds: float) -> None:
    """Let time pass, and all that is due then happen."""
    await trio.sleep(seconds)
    await trio.testing.wait_all_tasks_blocked()


async def test_another_attempt_begins_beside_those_that_hear_nothing_for_three_seconds(
    network: Network, autojump: trio.testing.MockClock
) -> None:
    async with network.running():
        await wait(20)
        assert [dial.began for dial in network.dials] == [0, 3, 6, 9, 12, 15, 18]


async def test_there_are_two_attempts_at_a_time_and_the_first_stays(
    network: Network, autojump: trio.testing.MockClock
) -> None:
    async with network.running():
        await wait(SILENCE)
        assert len(network.dials) == MAX_BESIDE
        assert network.given_up == []
        await wait(SILENCE * 5)
        assert len(network.dials) == 7
        assert network.given_up == [1, 2, 3, 4, 5]


async def test_an_attempt_to_which_bytes_come_has_no_other_beside_it(
    network: Network, autojump: trio.testing.MockClock
) -> None:
    async with network.running():
        await wait(0)
        session = await network.connect(0)
        for _ in range(10):
            await wait(2.9)
            session.wire.bytes_in += 1
        assert len(network.dials) == 1
        # The last one came shortly before a look, or shortly after it.
        await wait(2 * SILENCE)
        assert len(network.dials) == 2


@pytest.mark.parametrize("number", [0, 1])
async def test_the_first_to_be_connected_ends_the_other_that_still_dials(
    number: int, network: Network, autojump: trio.testing.MockClock
) -> None:
    async with network.running():
        await wait(SILENCE)
        await network.connect(number)
        assert network.given_up == [1 - number]


async def test_one_that_is_connected_does_not_end_another_that_is_too(
    network: Network, autojump: trio.testing.MockClock
) -> None:
    async with network.running():
        await wait(0)
        for number in range(MAX_BESIDE):
            await network.connect(number)
            await wait(SILENCE)
        # Both have their places, and none makes room for a third.
        await wait(SILENCE * 10)
        assert len(network.dials) == MAX_BESIDE
        assert network.given_up == []
        session = network.dials[1].session
        assert session is not None
        session.reached(Stage.UPGRADED)
        assert network.given_up == [0]


async def test_with_the_keys_it_is_decided_and_the_login_may_take_as_long_as_it_likes(
    network: Network, autojump: trio.testing.MockClock
) -> None:
    async with network.running():
        await wait(0)
        older = await network.connect(0)
        older.reached(Stage.UPGRADED)
        await wait(SILENCE)
        younger = await network.connect(1)
        younger.reached(Stage.UPGRADED)
        assert network.given_up == []
        younger.reached(Stage.KEYS_AGREED)
        assert network.given_up == [0]
        # In the same moment, before it could be cancelled.
        older.reached(Stage.KEYS_AGREED)
        assert network.given_up == [0]
        await wait(1000)
        assert len(network.dials) == 2
        younger.end(LOST)
        await wait(0)
        assert network.outcome == (younger, LOST)


async def test_one_that_is_given_up_while_it_is_being_connected_is_closed(
    network: Network, autojump: trio.testing.MockClock
) -> None:
    async with network.running():
        await wait(SILENCE)
        for dial in network.dials:
            dial.succeed()
        await wait(0)
        assert sum(dial.session is not None for dial in network.dials) == 1
        assert sum(dial.wire.closed for dial in network.dials) == 1


@pytest.mark.parametrize("number", [0, 1])
async def test_a_dial_that_fails_ends_the_other_that_still_dials(
    number: int, network: Network, autojump: trio.testing.MockClock
) -> None:
    async with network.running():
        await wait(SILENCE)
        network.dials[number].fail(REFUSED)
        await wait(0)
        assert network.outcome == (None, REFUSED)
        assert network.given_up == [1 - number]


async def test_one_that_is_connected_and_turned_away_ends_alone_and_is_the_last_to_begin(
    network: Network, autojump: trio.testing.MockClock
) -> None:
    async with network.running():
        await wait(0)
        first = await network.connect(0)
        await wait(SILENCE)
        second = await network.connect(1)
        second.end(LOST)
        await wait(SILENCE * 10)
        assert len(network.dials) == 2
        assert network.outcome is None
        first.reached(Stage.UPGRADED)
        first.reached(Stage.KEYS_AGREED)
        failure = ProtocolError("nonsense")
        first.end(failure)
        await wait(0)
        assert network.outcome == (first, failure)


async def test_the_time_limit_counts_from_the_first_connection_on(
    network: Network, autojump: trio.testing.MockClock
) -> None:
    async with network.running():
        await wait(1)
        first = await network.connect(0)
        await wait(SILENCE)
        second = await network.connect(1)
        assert first.deadline == second.deadline == 1 + TIMEOUT
        first.reached(Stage.UPGRADED)  # and then it says nothing any more
        await wait(SILENCE)
        assert len(network.dials) == 3
        first.end(LOST)
        await wait(1 + TIMEOUT - trio.current_time())
        assert network.dials[2].cancelled
        assert network.outcome is not None
        assert str(network.outcome[1]) == "the login took too long"


async def test_a_session_that_is_open_has_no_time_limit(
    network: Network, autojump: trio.testing.MockClock
) -> None:
    async with network.running():
        await wait(0)
        (await network.connect(0)).reached(Stage.UPGRADED)
        await wait(SILENCE)
        second = await network.connect(1)  # begun when the time limit was known
        second.reached(Stage.UPGRADED)
        second.reached(Stage.KEYS_AGREED)
        await wait(10 * TIMEOUT)
        assert network.outcome is None
        assert network.given_up == [0]


async def test_a_final_failure_ends_them_all(
    network: Network, autojump: trio.testing.MockClock
) -> None:
    async with network.running():
        await wait(0)
        await network.connect(0)
        await wait(SILENCE)
        failure = UsageError("a SOCKS proxy takes python-socks")
        network.dials[1].fail(failure)
        await wait(0)
        assert network.outcome == (None, failure)
        assert network.given_up == [0]


async def test_an_attempt_offers_the_other_dialect_where_the_first_is_refused(
    network: Network, autojump: trio.testing.MockClock
) -> None:
    async with network.running():
        await wait(SILENCE)
        first = await network.connect(1)
        assert first.dialect is CHISEL
        first.end(UpgradeRefused(404))
        await wait(0)
        second = await network.connect(2)
        assert second.dialect is COTUN
        assert network.outcome is None
        second.end(UpgradeRefused(404))
        await wait(0)
        assert network.outcome is not None
        assert network.outcome[0] is second


async def test_when_cancelled_nothing_dials_any_more(
    network: Network, autojump: trio.testing.MockClock
) -> None:
    async with network.running() as nursery:
        await wait(SILENCE)
        nursery.cancel_scope.cancel()
    assert all(dial.cancelled for dial in network.dials)


async def test_what_goes_on_beside_each_other_is_for_debugging_only(
    network: Network, autojump: trio.testing.MockClock
) -> None:
    async with watch_logs() as log, network.running():
        await wait(SILENCE * 5)
    assert log.lines() == []
    assert len(log.find("no answer for 3 s: trying again beside that", "client")) == 5
