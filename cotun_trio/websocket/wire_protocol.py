"""What a session needs of the wire that it runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import trio

    from cotun_trio.errors import CotunError
    from cotun_trio.websocket.wire import Receiver


class WireProtocol(Protocol):
    """A `cotun_trio.websocket.wire.Wire`, or what takes its place where there is no network."""

    ended: trio.Event
    """Set when nothing will be received any more."""
    failure: CotunError | None
    """Why, once `ended` is set."""
    bytes_in: int
    bytes_out: int

    @property
    def in_reserve(self) -> bool:
        """Whether its descriptor is one of the last (`cotun_trio.net.descriptors`)."""

    def attach(self, receiver: Receiver) -> None:
        """Give what came behind the handshake, and all that is still to come, to `receiver`."""

    def trust_peer(self, *, is_go: bool) -> None:
        """Take larger messages: the peer has logged in."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Read on, and return what trio-websocket has to see."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send what trio-websocket has to say."""

    async def aclose(self) -> None:
        """See `close`."""

    @property
    def busy(self) -> bool:
        """See `cotun_trio.ssh.protocols.Carrier`."""

    @property
    def turn(self) -> int:
        """See `cotun_trio.ssh.protocols.Carrier`."""

    async def wait_idle(self, *, urgent: bool = False) -> None:
        """See `cotun_trio.ssh.protocols.Carrier`."""

    def send(self, data: memoryview | bytearray) -> None:
        """See `cotun_trio.ssh.protocols.Carrier`."""

    async def run_writer(self) -> None:
        """Do what sending leaves to do.  Returns when the wire has ended."""

    def fail(self, error: CotunError) -> None:
        """End the wire because of `error`."""

    async def part(self) -> None:
        """Send what is left, and wait for the peer to close its end."""

    def close(self) -> None:
        """Free it."""
