"""The figures of a process, on one line; SIGUSR2 asks for it, as with the Go programs."""

from __future__ import annotations

import operator
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.forwards.drops import dropped_so_far
from cotun_trio.protocol.remote import Remote
from cotun_trio.units import format_duration, show_bytes

if TYPE_CHECKING:
    from collections.abc import Collection

    from cotun_trio.forwards.flows import Flow
    from cotun_trio.session import Session

MAX_CHANNELS = 1000
"""Connections of a session in a list."""


@attrs.define
class EndedTotals:
    """The sessions that have ended: their number, and the bytes that they have carried."""

    began: float = attrs.field(factory=time.monotonic)
    """The start of the process, on the monotonic clock."""
    sessions: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def add(self, session: Session) -> None:
        """Count a session that has ended, unless it was never open."""
        if not session.was_open:
            return
        self.sessions += 1
        self.bytes_in += session.wire.bytes_in
        self.bytes_out += session.wire.bytes_out


def _least(one: float | None, other: float | None) -> float | None:
    return min((each for each in (one, other) if each is not None), default=None)


_SUM = "sum"
"""How a figure of several processes is made, where it is not their sum."""


@attrs.frozen(kw_only=True)
class Figures:
    """The figures of one process, or of several together, which are their sums mostly."""

    sessions: int = 0
    """Current sessions."""
    ended: int = 0
    """Sessions that have ended."""
    channels: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    dropped: int = 0
    """Datagrams that had to be dropped so far."""
    tasks: int = 0
    descriptors: int = 0
    """0 where the system does not say; so is the memory."""
    memory: int = 0
    """Bytes."""
    certificate_expires: float | None = attrs.field(default=None, metadata={_SUM: _least})
    """When its TLS certificate ends, in seconds since 1970; of several, the first to end."""

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            **{
                field.name: field.metadata.get(_SUM, operator.add)(
                    getattr(self, field.name), getattr(other, field.name)
                )
                for field in attrs.fields(Figures)
            }
        )

    def show(self, uptime: float) -> str:
        """Return the figures on one line; `uptime` is in seconds."""
        words = [
            f"up {format_duration(round(uptime))}",
            f"{self.sessions} sessions ({self.ended + self.sessions} so far)",
            f"{self.channels} channels",
            f"{show_bytes(self.bytes_out)} sent",
            f"{show_bytes(self.bytes_in)} received",
            f"{self.dropped} datagrams dropped",
            f"{self.tasks} tasks",
        ]
        if self.memory:
            words.append(f"{self.descriptors} descriptors")
            words.append(f"{show_bytes(self.memory)} of memory")
        return ", ".join(words)


@attrs.frozen(kw_only=True)
class SessionFigures:
    """The figures of one open session."""

    number: int
    """As in the log: ``session=``."""
    worker: int = 0
    """The number of the process that has it, as in the log: ``worker=``; 0 where there is one."""
    peer: str
    """The address that the client comes from; or the URL of the server."""
    user: str
    """The user that has logged in; empty where there are no users."""
    version: str
    """The version that the peer gives, as it came: to be escaped."""
    remotes: tuple[str, ...]
    seconds: float
    """For how long it has been open."""
    channels: int
    bytes_out: int
    bytes_in: int
    round_trip: float | None
    """Seconds: the shortest that was measured; None where none was."""

    @property
    def id(self) -> str:
        """The number, after that of the worker and a dot where there are workers."""
        return f"{self.worker}.{self.number}" if self.worker else str(self.number)


@attrs.frozen(kw_only=True)
class ChannelFigures:
    """The figures of one connection of a session, or of the datagrams of one remote."""

    number: int | None
    """As in the log: ``conn=``; None where the log has none: standard input, and datagrams that
    come in here."""
    opened_by: str
    """The end that it comes in at: ``here`` or ``peer``."""
    remote: str | None
    """The remote that it comes in by here."""
    target: str | None
    """The target that the peer has named: text of the peer."""
    socks_target: str | None
    """The target that a SOCKS client of the peer has named, once it has."""
    source: str | None
    """The address that it comes from, where it comes in here."""
    seconds: float
    """For how long it has been open, or being opened."""
    bytes_in: int | None
    """Bytes received from the peer; None before it is open.  So are those sent."""
    bytes_out: int | None


@attrs.frozen
class SessionChannels:
    """The connections of a session: their number, and the figures of the eldest."""

    count: int
    """All of them; the list may be shorter."""
    channels: tuple[ChannelFigures, ...]


def session_channels(session: Session) -> SessionChannels:
    """Return the connections of a session."""
    flows = session.flows
    now = time.monotonic()
    return SessionChannels(
        flows.count, tuple(_channel_figures(flow, now) for flow in flows.eldest(MAX_CHANNELS))
    )


def _channel_figures(flow: Flow, now: float) -> ChannelFigures:
    channel, uses = flow.channel, flow.uses
    remote = uses.encode() if isinstance(uses, Remote) else None
    return ChannelFigures(
        number=flow.number,
        opened_by="peer" if remote is None else "here",
        remote=remote,
        target=str(uses) if remote is None else None,
        socks_target=None if flow.by_socks is None else str(flow.by_socks),
        source=str(flow.source) or None,
        seconds=round(now - flow.began, 3),
        bytes_in=None if channel is None else channel.bytes_in,
        bytes_out=None if channel is None else channel.bytes_out,
    )


def session_figures(session: Session) -> SessionFigures:
    """Return the figures of an open session."""
    about = session.about
    return SessionFigures(
        number=session.number,
        peer=about.peer,
        user=about.user,
        version=about.version,
        remotes=about.remotes,
        seconds=round(about.seconds, 3),
        channels=len(session.connection.channels),
        bytes_out=session.wire.bytes_out,
        bytes_in=session.wire.bytes_in,
        round_trip=session.connection.round_trip.shortest,
    )


def figures(ended: EndedTotals, present: Collection[Session]) -> Figures:
    """Return the figures of this process, with its ended and its current sessions."""
    descriptors, memory = _resources()
    return Figures(
        sessions=len(present),
        ended=ended.sessions,
        channels=sum(len(session.connection.channels) for session in present),
        bytes_out=ended.bytes_out + sum(session.wire.bytes_out for session in present),
        bytes_in=ended.bytes_in + sum(session.wire.bytes_in for session in present),
        dropped=dropped_so_far(),
        tasks=trio.lowlevel.current_statistics().tasks_living,
        descriptors=descriptors,
        memory=memory,
    )


def snapshot(ended: EndedTotals, present: Collection[Session]) -> str:
    """Return the same on one line."""
    return figures(ended, present).show(time.monotonic() - ended.began)


def _resources() -> tuple[int, int]:
    """Return the descriptors and bytes of the process, 0 where the system has no proc(5)."""
    try:
        descriptors = len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208  one is of the listing
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0, 0
    return descriptors, pages * os.sysconf("SC_PAGE_SIZE")
