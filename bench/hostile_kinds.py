"""What a hostile server floods its client with, and who notices.

Either another local program that uses the same tunnel, which waits behind the flood in any case; or
one that uses another tunnel, to a good server, of the same process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from bench.flood_kinds import DEBUG, IGNORE, UNKNOWN
from cotun_trio.ssh import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.raw_peer import RawPeer

    Make = Callable[[RawPeer, int, int], bytes]
    """Gives so many crumbs, as they go over the network; some are for a channel."""

SAME, OTHER = "by a hostile server, same tunnel", "by a hostile server, other tunnel"


@attrs.frozen(kw_only=True)
class HostileKind:
    """A kind of flood by a server."""

    name: str
    title: str
    who: str
    make: Make
    crowds: tuple[int, ...] = (1,)

    @property
    def other_tunnel(self) -> bool:
        """Whether the bystander uses another tunnel of the same process."""
        return self.who == OTHER


def framed(frame: bytes) -> Make:
    """Return what makes the same WebSocket frame each time."""
    return lambda _peer, _channel, count: frame * count


def said(message: Callable[[int], bytes]) -> Make:
    """Return what makes an SSH message for a channel each time."""

    def make(peer: RawPeer, channel: int, count: int) -> bytes:
        peer.say(*[message(channel)] * count)
        return peer.waiting()

    return make


REQUEST = messages.global_request(b"flood@bench", b"", want_reply=True)
OPENING = messages.channel_open(b"chisel", 0, 2**21, 2**15, b"10.0.0.1:1")
CRUMBS: tuple[tuple[str, str, Make], ...] = (
    ("pongs", "empty pongs", framed(b"\x8a\0")),
    ("pings", "empty pings", framed(b"\x89\0")),
    ("ignore", "IGNORE", said(lambda _: IGNORE)),
    ("debug", "DEBUG", said(lambda _: DEBUG)),
    ("unknown", "unknown messages", said(lambda _: UNKNOWN)),
    ("requests", "unknown requests", said(lambda _: REQUEST)),
    ("opens", "refused opens", said(lambda _: OPENING)),
    ("adjustments", "window + 1", said(lambda channel: messages.window_adjust(channel, 1))),
    (
        "empty-data",
        "empty data",
        said(
            lambda channel: (
                messages.about_channel(messages.CHANNEL_DATA, channel) + messages.string(b"")
            )
        ),
    ),
)
HOSTILE_KINDS = tuple(
    HostileKind(name=f"{short}-{name}", title=title, who=who, make=make)
    for short, who in (("same", SAME), ("other", OTHER))
    for name, title, make in CRUMBS
)
