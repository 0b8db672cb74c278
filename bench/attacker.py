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

from bench.flood_kinds import BURST
from bench.processes import PATIENCE, BenchError, child
from bench.raw_peer import PeerError, connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from bench.flood_kinds import Kind, Places
    from bench.raw_peer import Address, Login, RawPeer

NICENESS = 19
AT_A_TIME = 8
"""Connections on their way at once."""
PIECE = 64 * 1024
"""Bytes of a sustained flood that are made at once."""
SOURCE = "127.0.0.2"
"""Where it comes from: others are not to be refused for its sake."""


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
        self.report = Report()
        self._parent = parent
        self._orders = orders
        self._go, self._stop = trio.Event(), trio.Event()

    async def run(self) -> None:
        """Get ready, say so, and do what the parent says; see `Attacker`."""
        limit = trio.CapacityLimiter(AT_A_TIME)
        ready: list[tuple[RawPeer, bytes]] = []

        async def prepare() -> None:
            async with limit:
                try:
                    ready.append(await self._prepare())
                except PeerError as error:
                    self.report.refused = str(error)

        async with trio.open_nursery() as nursery:
            for _ in range(self._orders.crowd):
                nursery.start_soon(prepare)
        self.report.connections = len(ready)
        self._parent.send(self.report)
        async with trio.open_nursery() as nursery:
            for peer, burst in ready:
                nursery.start_soon(self._attack, peer, burst)
            for event in (self._go, self._stop):
                await self._hear()
                event.set()
            await self._hear()
            self._parent.send(self.report)
            nursery.cancel_scope.cancel()

    async def _hear(self) -> None:
        await trio.lowlevel.wait_readable(self._parent.fileno())
        self._parent.recv()

    async def _prepare(self) -> tuple[RawPeer, bytes]:
        orders = self._orders
        peer = await connect(orders.address, orders.kind.stage, login=orders.guest, source=SOURCE)
        if orders.kind.channel:
            with trio.fail_after(PATIENCE):
                await peer.open_channel(orders.places.allowed)
        return peer, peer.sealed(orders.kind.make(peer, orders.places, BURST))

    async def _attack(self, peer: RawPeer, burst: bytes) -> None:
        """Flood by one connection, until it is cut."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._drain, peer, nursery.cancel_scope)
            await self._go.wait()
            with contextlib.suppress(trio.BrokenResourceError):  # draining tells
                await self._send(peer, burst)
                while self._orders.kind.sustained and not self._stop.is_set():
                    more = self._orders.kind.make(peer, self._orders.places, PIECE)
                    await self._send(peer, peer.sealed(more))

    async def _send(self, peer: RawPeer, data: bytes) -> None:
        for at in range(0, len(data), PIECE):
            piece = data[at : at + PIECE]
            await peer.send_sealed(piece)
            self.report.sent += len(piece)

    async def _drain(self, peer: RawPeer, scope: trio.CancelScope) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await peer.drain()
        self.report.cut += 1
        scope.cancel()


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
