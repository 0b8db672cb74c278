"""A network in memory that goes dark and heals, and no link tells of it: what a client dials by."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.errors import ConnectionLost, DialFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cotun_trio.settings import Route
    from cotun_trio.testing.pair import MemoryNetwork
    from cotun_trio.testing.wire import MemoryWire


@attrs.frozen
class Darkness:
    """What a connection meets that is begun in the dark."""

    repeats: tuple[float, ...]
    """Seconds after its beginning at which something is sent."""
    timeout: float
    """Seconds after which it fails."""

    async def pass_through(self, is_dark: Callable[[], bool]) -> None:
        """Return when something that is sent gets through.  Raises `DialFailed`."""
        since = trio.current_time()
        with trio.move_on_at(since + self.timeout):
            for after in self.repeats:
                await trio.sleep_until(since + after)
                if not is_dark():
                    return
            await trio.sleep_until(since + self.timeout)
        raise DialFailed(f"no answer in {self.timeout:g} s", errno.ETIMEDOUT)


DROPS = Darkness((0, 1.02, 3.05, 7.1, 15.2), 30)
"""Packets are lost: SYNs are repeated as RFC 6298 has it, by timers that are a little late."""
DROPS_ONCE = Darkness((0,), 30)
"""The same, where the system repeats nothing: it has to be begun again."""
UNREACHABLE = Darkness((0,), 0.02)
"""Some router says so at once."""
NO_NAMES = Darkness((0, 5), 10)
"""The name is asked for twice, and then it cannot be looked up (resolv.conf(5))."""
NO_NEIGHBOUR = Darkness((0,), 2.9)
"""It takes a while until the system knows that it is unreachable."""


class DarkNetwork:
    """An `AnyUplink` to a server in memory, through a network that is `dark` at times."""

    def __init__(self, network: MemoryNetwork, darkness: Darkness) -> None:
        self.dark = False
        self.dials = 0
        """Connections that were begun."""
        self.wires: list[MemoryWire] = []
        """The client's ends of those that were made."""
        self._network = network
        self._darkness = darkness

    async def dial(self, route: Route, taken: Collection[str] = ()) -> MemoryWire:
        """See `cotun_trio.client.uplink.AnyUplink`."""
        await trio.lowlevel.checkpoint()
        self.dials += 1
        await self._darkness.pass_through(lambda: self.dark)
        self.wires.append(self._network.connect())
        return self.wires[-1]

    async def watch(self, came_back: Callable[[], None]) -> None:
        """See `cotun_trio.client.uplink.AnyUplink`: nobody tells."""
        await trio.lowlevel.checkpoint()

    def go_dark(self) -> None:
        """Lose all connections, which both sides know, and let no new one through."""
        self.dark = True
        for wire in self.wires:
            for end in (wire, wire.peer):
                end.fail(ConnectionLost("no answer to a ping"))

    def heal(self) -> None:
        """Let connections through, beginning with what is sent from now on."""
        self.dark = False
