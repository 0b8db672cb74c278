"""The protocols of a wire: itself, the carrier that it offers, and the receiver that it feeds.

`cotun_trio.websocket.wire.Wire` is the one with a network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import trio

    from cotun_trio.budget import Budget
    from cotun_trio.errors import CotunError


class Receiver(Protocol):
    """Takes the bytes that travel in binary messages."""

    @property
    def budget(self) -> Budget:
        """The work that the peer may cause in a turn."""

    @property
    def unfinished(self) -> bool:
        """Whether it has not processed all that it was given, for want of budget.

        It has to be given nothing, in another turn, until that is done.
        """

    @property
    def paused(self) -> bool:
        """Whether nothing should be read at present."""

    async def wait_resumed(self) -> None:
        """Wait until reading may go on."""

    def start_batch(self) -> None:
        """A turn begins, and its budget."""

    def receive(self, data: memoryview) -> None:
        """Take bytes, valid until `end_batch`.  Raises `CotunError` to end the wire."""

    def end_batch(self) -> None:
        """The turn is over."""


class Carrier(Protocol):
    """The sending half of a wire, as `cotun_trio.ssh.protocols.Carrier` describes it."""

    @property
    def busy(self) -> bool:
        """Whether the network has not taken all that was sent."""

    @property
    def turn(self) -> int:
        """How many bytes one sender may send before others have their turn."""

    async def wait_idle(self, *, urgent: bool = False) -> None:
        """Wait until the network has taken all; `urgent` senders go first."""

    def send(self, data: memoryview | bytearray) -> None:
        """Send `data`, or keep a copy."""


class WireProtocol(Protocol):
    """A `cotun_trio.websocket.wire.Wire`, or its stand-in where there is no network."""

    ended: trio.Event
    """Set when nothing will be received any more."""
    failure: CotunError | None
    """Why, once `ended` is set."""
    bytes_in: int

    @property
    def bytes_out(self) -> int:
        """Bytes written to the network."""

    @property
    def peer_address(self) -> str:
        """The address of the other end of the socket, in digits; empty where it has none."""

    @property
    def carrier(self) -> Carrier:
        """The half that an SSH connection sends on."""

    @property
    def in_reserve(self) -> bool:
        """Whether its descriptor is one of the last (`cotun_trio.net.descriptors`)."""

    def attach(self, receiver: Receiver) -> None:
        """Give the frames behind the handshake, and all that are still to come, to `receiver`."""

    def trust_peer(self, *, is_go: bool) -> None:
        """Take larger messages: the peer has logged in."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Read on, and return the bytes that trio-websocket has to see."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send the bytes of trio-websocket."""

    async def aclose(self) -> None:
        """See `close`."""

    async def run_writer(self) -> None:
        """Send the bytes that the network did not take at once.

        Returns when the wire has ended.
        """

    def fail(self, error: CotunError) -> None:
        """End the wire because of `error`."""

    async def part(self) -> None:
        """Send the rest, and wait for the peer to close its end."""

    def close(self) -> None:
        """Close the socket.  Can be called again."""
