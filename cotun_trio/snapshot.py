"""The figures of a process, on one line; SIGUSR2 asks for it, as with the Go programs."""

from __future__ import annotations

import operator
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import trio

from cotun_trio.counts import UserTraffic, add_users, counted_name
from cotun_trio.forwards.drops import dropped_so_far
from cotun_trio.net.descriptors import soft_limit
from cotun_trio.protocol.remote import Remote
from cotun_trio.units import format_duration, show_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cotun_trio.forwards.flows import Flow
    from cotun_trio.session import Session

MAX_CHANNELS = 1000
"""Connections of a session in a list."""
SLICE = 10_000
"""The work that is done before other tasks have their turn, in hundreds of nanoseconds or so."""
SESSION, CHANNEL = 100, 2
"""The work for a session, and for each of its channels."""


@attrs.define
class EndedTotals:
    """The sessions that have ended: their number, and the bytes that they have carried."""

    user_of: Callable[[Any], str | None] | None = None
    """The user of a session; None where users are not told apart."""
    began: float = attrs.field(factory=time.monotonic)
    """The start of the process, on the monotonic clock."""
    started: float = attrs.field(factory=time.time)
    """The same in seconds since 1970."""
    sessions: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    users: dict[str, UserTraffic] = attrs.field(factory=dict)
    """The bytes of each user that has been seen, where they are told apart."""

    def add(self, session: Session) -> None:
        """Count a session that has ended, unless it was never open."""
        if not session.was_open:
            return
        self.sessions += 1
        self.bytes_in += session.wire.bytes_in
        self.bytes_out += session.wire.bytes_out
        for name, traffic in self.traffic([session]).items():
            self.users[name] += attrs.evolve(traffic, sessions=0)

    def traffic(self, present: Iterable[Session]) -> dict[str, UserTraffic]:
        """Return what sessions carry by user, where users are told apart.

        A user that has been counted by name once always is.
        """
        found: dict[str, UserTraffic] = {}
        if self.user_of is not None:
            for session in present:
                name = counted_name(self.users, self.user_of(session))
                self.users.setdefault(name, UserTraffic())
                wire = session.wire
                traffic = UserTraffic(1, wire.bytes_out, wire.bytes_in)
                found[name] = found.get(name, UserTraffic()) + traffic
        return found


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
    max_descriptors: int = 0
    """How many the system allows, in all processes; 0 where there is no limit."""
    backlog_out: int = 0
    """Bytes that wait for the network."""
    backlog_in: int = 0
    """Bytes from the network that wait for a program here, which is slow to read."""
    connections: int = 0
    """Forwarded connections, as they count for the limit."""
    max_connections: int = attrs.field(default=0, metadata={_SUM: max})
    """The limit, which several processes share; 0: there is none."""
    draining: int = 0
    """Processes that take nothing new, since they are about to end."""
    started: float | None = attrs.field(default=None, metadata={_SUM: _least})
    """When it began, in seconds since 1970; of several processes, the first."""
    certificate_expires: float | None = attrs.field(default=None, metadata={_SUM: _least})
    """When its TLS certificate ends, in seconds since 1970; of several, the first to end."""
    users: dict[str, UserTraffic] = attrs.field(factory=dict, metadata={_SUM: add_users})
    """Sessions and bytes by user, at a server with --metrics-per-user."""

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
class FleetNode:
    """A node of a fleet, as another one knows it."""

    id: str
    address: str
    """The URL by which other nodes reach it."""
    version: str
    load: int
    """The number of its sessions."""
    draining: bool
    routes: int
    """The places that it owns."""


@attrs.frozen(kw_only=True)
class FleetRoute:
    """A place that a session of this node owns."""

    place: str
    session: int
    user: str
    shared: bool
    """Whether the same client has it at other nodes, too."""
    epoch: int


@attrs.frozen(kw_only=True)
class FleetFigures:
    """The fleet of a server, as this node knows it."""

    name: str
    id: str
    """Of this node."""
    directory: str
    """The URL of the directory, without a password."""
    answers: bool
    """Whether the directory has answered within a lease."""
    lease_seconds: float
    """For how long this node's lease is held, at least; 0 where it has run out."""
    epoch: int
    """The highest epoch seen."""
    draining: bool
    nodes: tuple[FleetNode, ...]
    """The other nodes; the first 1000."""
    own_routes: int
    """The number of places that this node owns."""
    routes: tuple[FleetRoute, ...]
    """The first 1000 of them."""
    places: int
    """The number of places that other nodes own."""
    listening: int
    """The number of those at which this node listens for them."""
    links: int
    """The number of open links to other nodes."""


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


async def session_figures_in_turns(present: Sequence[Session]) -> list[SessionFigures]:
    """Return the figures of open sessions; other tasks have their turn after some of them."""
    found: list[SessionFigures] = []
    for slice_ in _slices(present):
        found += map(session_figures, slice_)
        await trio.lowlevel.checkpoint()
    return found


def figures(ended: EndedTotals, present: Sequence[Session]) -> Figures:
    """Return the figures of this process, with its ended and its current sessions."""
    total = Figures()
    for part in _parts(ended, present):
        total += part
    return total


async def figures_in_turns(ended: EndedTotals, present: Sequence[Session]) -> Figures:
    """Return the same; other tasks have their turn after some of the sessions."""
    total = Figures()
    for part in _parts(ended, present):
        total += part
        await trio.lowlevel.checkpoint()
    return total


def snapshot(ended: EndedTotals, present: Sequence[Session]) -> str:
    """Return the same on one line."""
    return figures(ended, present).show(time.monotonic() - ended.began)


def _parts(ended: EndedTotals, present: Sequence[Session]) -> Iterator[Figures]:
    """Yield the figures of the process, and then of its sessions, some at a time.

    A session that ends meanwhile counts as a current one.
    """
    descriptors, memory = _resources()
    yield Figures(
        ended=ended.sessions,
        bytes_out=ended.bytes_out,
        bytes_in=ended.bytes_in,
        dropped=dropped_so_far(),
        tasks=trio.lowlevel.current_statistics().tasks_living,
        descriptors=descriptors,
        memory=memory,
        max_descriptors=soft_limit() or 0,
        started=ended.started,
        users=dict(ended.users),
    )
    for slice_ in _slices(present):
        yield Figures(
            sessions=len(slice_),
            channels=sum(len(session.connection.channels) for session in slice_),
            bytes_out=sum(session.wire.bytes_out for session in slice_),
            bytes_in=sum(session.wire.bytes_in for session in slice_),
            backlog_out=sum(session.wire.carrier.backlog for session in slice_),
            backlog_in=sum(
                channel.backlog
                for session in slice_
                for channel in session.connection.channels.values()
            ),
            users=ended.traffic(slice_),
        )


def _slices(present: Sequence[Session]) -> Iterator[list[Session]]:
    """Yield the sessions in lists that are work for a millisecond or so each.

    None is cut in two: as many channels as a session has by default are two milliseconds.
    """
    slice_: list[Session] = []
    work = 0
    for session in present:
        slice_.append(session)
        work += SESSION + CHANNEL * len(session.connection.channels)
        if work >= SLICE:
            yield slice_
            slice_, work = [], 0
    if slice_:
        yield slice_


def _resources() -> tuple[int, int]:
    """Return the descriptors and bytes of the process, 0 where the system has no proc(5)."""
    try:
        # Linux counts them since 6.2; to list ten thousand takes 20 ms.
        descriptors = Path("/proc/self/fd").stat().st_size
        if not descriptors:
            descriptors = len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208  one is of the listing
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0, 0
    return descriptors, pages * os.sysconf("SC_PAGE_SIZE")
