"""How much a relay sends before other tasks have their turn.

A relay begins with turns of one packet: most connections carry little.  A turn that was filled
has more behind it, and the next one is longer.  Bulk goes out in long turns, since each has its
price, but in short ones beside a channel of the same connection that sends little at a time: the
peer may be waiting there for an answer.
"""

from __future__ import annotations

from cotun_trio.ssh.scratch import MAX_PACKET, SLOTS

LONG_TURN = SLOTS * MAX_PACKET
"""Bytes of a turn where no other channel sends little at a time."""
SHORT_TURN = 64 * 1024
"""The same beside channels on which a peer may wait for an answer."""
CALM = 8
"""Filled turns with no small send between them, after which they are long."""


class TurnLength:
    """Follows the turns of one relay."""

    __slots__ = ("_calm", "_small_sends", "limit")

    def __init__(self) -> None:
        self.limit = MAX_PACKET
        """Bytes of the next turn, at the most."""
        self._calm = 0  # filled turns since the last small send
        self._small_sends = 0

    def filled(self, small_sends: int) -> None:
        """Note that a turn was filled, or a packet: there is more.

        `small_sends` is the number of small sends of the whole connection by now.
        """
        self._calm = self._calm + 1 if small_sends == self._small_sends else 0
        self._small_sends = small_sends
        self.limit = LONG_TURN if self._calm >= CALM else SHORT_TURN

    def not_filled(self) -> None:
        """Note that a turn had less to send than it was allowed."""
        self.limit = MAX_PACKET
