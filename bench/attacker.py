"""The attacker, a process of its own: gets as far as it can, and sends a flood when told to.

It is nice to everybody (nice(2)): two processors are shared by all here, and what the others wait
for is to be the victim, not the attacker's turn.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import attrs
import trio

from bench.processes import PATIENCE, BenchError, child
from bench.raw_peer import FAILURES, connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from bench.flood_kinds import Kind, Places
    from bench.raw_peer import Address, Login, RawPeer

NICENESS = 19
AT_A_TIME = 8
"""Connections on their way at once."""
BURST = 256 * 1024
"""Bytes that each connection sends at once."""
PIECE = 64 * 1024
"""Bytes of a sustained flood that are made at once."""
SOURCE = "127.0.0.2"
"""Where it comes from: others are not to be refused for its sake."""
RECORD_HEAD = 22
"""Bytes that a record of TLS 1.3 adds to its content."""


@attrs.frozen(kw_only=True)
class Orders:
    """What the attacker is to do."""

    kind: Kind
    crowd: int
    address: Address
    guest: Login
    places: Places


@attrs.define(kw_only=True)
class Report:
    """What has come of it."""

    connections: int = 0
    """Those that got as far as they wanted to."""
    sent: int = 0
    """Bytes that the server's system has taken."""
    cut: int = 0
    """Connections that the server has closed."""
    refused: str = ""
    """Why one of them did not get so far."""


class Attack:
    """One flood, in one process."""

    def __init__(self, parent: Connection, orders: Orders) -> None:
        self.orders = orders
        self.report = Report()
        self.stopped = trio.Event()
        """Set when nothing more is to be sent."""
        self.limit = trio.CapacityLimiter(AT_A_TIME)
        """For connections on their way."""
        self._parent = parent
        self._go = trio.Event()

    async def run(self) -> None:
        """Get ready, say so, and do what the parent says; see `Attacker`."""
        async with trio.open_nursery() as nursery:

            async def begin(number: int) -> None:
                async with self.limit:
                    await nursery.start(self._one, number)

            async with trio.open_nursery() as beginning:
                for number in range(self.orders.crowd):
                    beginning.start_soon(begin, number)
            self._parent.send(self.report)
            for event in (self._go, self.stopped):
                await self._hear()
                event.set()
            await self._hear()
            self._parent.send(self.report)
            nursery.cancel_scope.cancel()

    async def _hear(self) -> None:
        await trio.lowlevel.wait_readable(self._parent.fileno())
        self._parent.recv()

    async def _one(self, number: int, *, task_status: trio.TaskStatus[None]) -> None:
        """Be one connection, or one who makes them one after the other."""
        prepared = False

        async def ready() -> None:
            nonlocal prepared
            prepared = True
            self.report.connections += 1
            task_status.started()
            await self._go.wait()

        try:
            await self.orders.kind.script(self, number, ready)
        except FAILURES as error:
            if prepared:
                self.report.cut += 1
            else:
                self.report.refused = f"{type(error).__name__}: {error}"
                task_status.started()

    async def connect(
        self, *, stage: str = "", source: str = SOURCE, target: str | None = None
    ) -> RawPeer:
        """Return a connection as far as the kind says, or to `stage`; see `raw_peer.connect`."""
        orders = self.orders
        return await connect(
            orders.address,
            stage or orders.kind.stage,
            login=orders.guest,
            source=source,
            target=target,
        )

    @property
    def burst(self) -> int:
        """Bytes that each connection sends at once; with TLS records around them, `BURST`."""
        address = self.orders.address
        if address.ca is None:
            return BURST
        return BURST * address.record // (address.record + RECORD_HEAD)

    async def send(self, peer: RawPeer, sealed: bytes) -> None:
        """Send what has been sealed, and count it."""
        for at in range(0, len(sealed), PIECE):
            piece = sealed[at : at + PIECE]
            await peer.send_sealed(piece)
            self.report.sent += len(piece)


def be_attacker(parent: Connection, orders: Orders) -> None:
    """Attack, as a process."""
    os.nice(NICENESS)
    trio.run(Attack(parent, orders).run)


class Attacker:
    """The parent's side of an attack."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.report: Report = self._hear()
        """What there is to tell so far."""

    def _hear(self) -> Report:
        if not self._pipe.poll(3 * PATIENCE):
            raise BenchError("the attacker does not get ready")
        try:
            report: Report = self._pipe.recv()
        except EOFError:
            raise BenchError("the attacker has failed") from None
        return report

    def go(self) -> None:
        """Begin."""
        self._pipe.send("go")

    def stop(self) -> None:
        """Send no more; the connections stay open."""
        self._pipe.send("stop")

    def finish(self) -> None:
        """Have its report."""
        self._pipe.send("report")
        self.report = self._hear()


@contextlib.contextmanager
def attacking(orders: Orders) -> Iterator[Attacker]:
    """Give an attacker that is ready; its connections are closed afterwards."""
    with child(be_attacker, orders) as pipe:
        yield Attacker(pipe)
