"""The server or the client that an admin interface shows.

`Watched` is all that the interface knows of it.  `Own` is one in this process; the one of several
processes is in `cotun_trio.workers`, and asks each of them, so that everything here may take a
moment.
"""

from __future__ import annotations

import abc
import time
from typing import TYPE_CHECKING, Protocol

import attrs

from cotun_trio import logs
from cotun_trio.counts import meters
from cotun_trio.errors import CotunError
from cotun_trio.snapshot import figures, session_channels, session_figures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cotun_trio.access.penalties import Bar
    from cotun_trio.counts import Meters
    from cotun_trio.logs import Level
    from cotun_trio.session import Session
    from cotun_trio.snapshot import EndedTotals, Figures, SessionChannels, SessionFigures


@attrs.frozen
class Fact:
    """A fact about a server or a client that is no figure."""

    name: str
    """For people."""
    values: tuple[str, ...]


class Bars(Protocol):
    """The sources that are barred for failed logins."""

    def bars(self) -> Sequence[Bar]:
        """Return all of them."""

    def lift(self, source: str) -> bool:
        """Let `source` in again; return whether it was barred."""

    def lift_all(self) -> int:
        """Let all of them in again; return how many there were."""


class NoBars:
    """None: of a client, and of a process that does not keep the account."""

    def bars(self) -> Sequence[Bar]:
        """See `Bars`."""
        return ()

    def lift(self, source: str) -> bool:  # noqa: ARG002
        """See `Bars`."""
        return False

    def lift_all(self) -> int:
        """See `Bars`."""
        return 0


NO_BARS = NoBars()


class NoAnswer(CotunError):
    """A process does not answer for the sessions that it has."""


@attrs.frozen(kw_only=True)
class WorkerFigures:
    """A process of several that are one server."""

    number: int
    """As in the log: ``worker=``."""
    process: int
    """Its process's number."""
    answers: bool
    """Whether the figures are present ones; or else those that it gave last."""
    figures: Figures


class Watched(abc.ABC):
    """A server or a client."""

    role: str
    """``server`` or ``client``."""

    @property
    @abc.abstractmethod
    def not_ready(self) -> str | None:
        """Why it carries no new connections at present; None where it does."""

    @property
    @abc.abstractmethod
    def uptime(self) -> float:
        """Seconds since it began."""

    @property
    def facts(self) -> Sequence[Fact]:
        """Facts that are to be shown: where it listens, which server it is for."""
        return ()

    @property
    def workers(self) -> Sequence[WorkerFigures]:
        """The processes that carry its sessions, as `stats` has seen them last.

        There are none where this process carries them itself.
        """
        return ()

    @abc.abstractmethod
    async def stats(self) -> tuple[Figures, Meters]:
        """Return the present figures, and the tallies and durations so far."""

    @abc.abstractmethod
    async def sessions(self) -> Sequence[SessionFigures]:
        """Return the figures of each open session."""

    @abc.abstractmethod
    async def session(self, identity: str) -> SessionFigures | None:
        """Return the figures of the open session that has this `SessionFigures.id`.

        None where there is no such session.  Raises `NoAnswer`.
        """

    @abc.abstractmethod
    async def kick(self, identity: str, reason: str) -> bool:
        """End the open session that has this `SessionFigures.id`, whose peer is told why.

        Returns whether there is one.  Raises `NoAnswer`.
        """

    @abc.abstractmethod
    async def channels(self, identity: str) -> SessionChannels | None:
        """Return the connections of that session; None where there is no such session.

        Raises `NoAnswer`.
        """

    @abc.abstractmethod
    async def bars(self) -> Sequence[Bar]:
        """Return each source that is barred for failed logins."""

    @abc.abstractmethod
    async def lift(self, source: str) -> bool:
        """Let `source` in again; return whether it was barred."""

    @abc.abstractmethod
    async def lift_all(self) -> int:
        """Let all barred sources in again; return how many there were."""

    @abc.abstractmethod
    async def log_level(self) -> Level | None:
        """Return the level of the log; None where that is another program's."""

    @abc.abstractmethod
    async def set_log_level(self, level: Level) -> None:
        """Set the level of the log; only where it has one."""


class Own(Watched):
    """One in this process: its ended sessions, the function that returns the open ones, and its
    bars."""

    def __init__(
        self,
        ended: EndedTotals,
        present: Callable[[], Sequence[Session]],
        bars: Bars = NO_BARS,
    ) -> None:
        self._ended = ended
        self._present = present
        self._bars = bars

    @property
    def uptime(self) -> float:
        """See `Watched`."""
        return time.monotonic() - self._ended.began

    @property
    @abc.abstractmethod
    def certificate_expires(self) -> float | None:
        """See `Figures`."""

    def figures(self) -> Figures:
        """Return the present figures."""
        found = figures(self._ended, self._present())
        return attrs.evolve(found, certificate_expires=self.certificate_expires)

    async def stats(self) -> tuple[Figures, Meters]:
        """See `Watched`."""
        return self.figures(), meters()

    async def sessions(self) -> Sequence[SessionFigures]:
        """See `Watched`."""
        return [session_figures(session) for session in self._present()]

    async def session(self, identity: str) -> SessionFigures | None:
        """See `Watched`."""
        session = self._find(identity)
        return None if session is None else session_figures(session)

    async def kick(self, identity: str, reason: str) -> bool:
        """See `Watched`."""
        session = self._find(identity)
        if session is None:
            return False
        session.log.info("ended by an administrator: %s", reason)
        session.log.event("kicked", reason=reason)
        session.kick(reason)
        return True

    async def channels(self, identity: str) -> SessionChannels | None:
        """See `Watched`."""
        session = self._find(identity)
        return None if session is None else session_channels(session)

    def _find(self, identity: str) -> Session | None:
        """Return the open session that has this `SessionFigures.id`."""
        return next((each for each in self._present() if str(each.number) == identity), None)

    async def bars(self) -> Sequence[Bar]:
        """See `Watched`."""
        return self._bars.bars()

    async def lift(self, source: str) -> bool:
        """See `Watched`."""
        return self._bars.lift(source)

    async def lift_all(self) -> int:
        """See `Watched`."""
        return self._bars.lift_all()

    async def log_level(self) -> Level | None:
        """See `Watched`."""
        return logs.level()

    async def set_log_level(self, level: Level) -> None:
        """See `Watched`."""
        logs.set_level(level)
