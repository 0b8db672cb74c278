"""The kinds of flood: how far the attacker gets first, what it sends then, and from where."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import attrs

from bench import flood_scripts as scripts
from bench.flood_scripts import crumbs
from cotun_trio.ssh import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.flood_scripts import Script
    from bench.raw_peer import RawPeer

STRANGERS, GUESTS = "before login", "after login"


@attrs.frozen(kw_only=True)
class Needs:
    """What a kind needs of the server that it is tried on."""

    descriptors: int | None = None
    """Those that the server may have."""
    back_end: bool = False
    """An HTTP server behind it."""
    silent_names: bool = False
    """Its name server never answers."""
    costly_login: bool = False
    """The bystander's password is a hash that takes about a second.  Only we have hashes."""
    unread_log: bool = False
    """Standard error is a pipe that nobody reads."""


@attrs.frozen(kw_only=True)
class Places:
    """Where a guest can ask the server to go, as targets, and whose password to guess."""

    allowed: str
    """Takes everything and says next to nothing."""
    closed: str
    """A port that the guest may ask for, and where nobody listens."""
    datagrams: str
    """An echo of datagrams."""
    denied: str = "10.0.0.1:1"
    """One that the guest may not ask for."""
    costly_user: str


@attrs.frozen(kw_only=True)
class Kind:
    """A kind of flood."""

    name: str
    title: str
    stage: str
    """How far the attacker gets before; see `bench.raw_peer.STAGES`."""
    script: Script
    """What each of its connections does."""
    crowds: tuple[int, ...] | None = None
    """Numbers of connections that make sense, where these are not those of the command line."""
    needs: Needs = Needs()
    record: int | None = None
    """Bytes in a TLS record, where it is about these: then there is TLS in any case."""

    @property
    def who(self) -> str:
        """Who can do it."""
        return GUESTS if self.stage in ("in", "open") else STRANGERS


def frame_kind(
    name: str, title: str, frame: bytes, *, first: bytes = b"", record: int | None = None
) -> Kind:
    """Return the flood of one WebSocket frame again and again, after another one."""

    def make(_peer: RawPeer, _places: Places, size: int) -> bytes:
        return first + frame * (size // len(frame))

    return Kind(name=name, title=title, stage="upgraded", script=crumbs(make), record=record)


def ssh_kind(
    name: str,
    title: str,
    message: Callable[[RawPeer, Places], bytes],
    *,
    stage: str = "open",
    channel: bool = False,
    needs: Needs = Needs(),
) -> Kind:
    """Return the flood of one SSH message again and again; a guest's goes on and on."""

    def make(peer: RawPeer, places: Places, size: int) -> bytes:
        packetizer = peer.engine.packetizer
        while len(packetizer.out) < size:
            packetizer.send_payload(message(peer, places))
        return peer.waiting()

    script = crumbs(make, channel=channel, sustained=stage == "open")
    return Kind(name=name, title=title, stage=stage, script=script, needs=needs)


def constant(message: bytes) -> Callable[[RawPeer, Places], bytes]:
    """Return what gives the same message each time."""
    return lambda _peer, _places: message


def make_plain_ignores(peer: RawPeer, _places: Places, size: int) -> bytes:
    """Return a version line and messages before any key exchange, which never begins."""
    out = peer.engine.packetizer.out
    del out[out.index(b"\n") + 1 :]  # no KEXINIT behind it
    while len(out) < size:
        peer.say(IGNORE)
    return peer.waiting()


def opening(target: Callable[[Places], bytes]) -> Callable[[RawPeer, Places], bytes]:
    """Return what asks for a channel to a target, with another number each time."""

    def message(peer: RawPeer, places: Places) -> bytes:
        peer.count += 1
        return messages.channel_open(b"chisel", peer.count, 2**21, 2**15, target(places))

    return message


def data(content: bytes) -> Callable[[RawPeer, Places], bytes]:
    """Return what sends data on the channel."""
    end = messages.string(content)
    return lambda peer, _: messages.about_channel(messages.CHANNEL_DATA, peer.channel) + end


def adjustment(peer: RawPeer, _places: Places) -> bytes:
    """Return a window adjustment by one byte."""
    return messages.window_adjust(peer.channel, 1)


def channel_request(peer: RawPeer, _places: Places) -> bytes:
    """Return a request that no server knows (RFC 4254 section 5.4)."""
    head = struct.pack(">BI", messages.CHANNEL_REQUEST, peer.channel)
    return head + messages.string(b"flood@bench") + b"\1"


EMPTY_PONG = b"\x8a\x80\0\0\0\0"
IGNORE = bytes((messages.IGNORE,)) + messages.string(b"")
DEBUG = bytes((messages.DEBUG, 0)) + messages.string(b"") + messages.string(b"")
UNKNOWN = bytes((192,))
"""The first type for private use (RFC 4250 section 4.1.2)."""
SERVICE = bytes((messages.SERVICE_REQUEST,)) + messages.string(b"ssh-userauth")
NONE_LOGIN = bytes((messages.USERAUTH_REQUEST,)) + b"".join(
    map(messages.string, (b"guest", b"ssh-connection", b"none"))
)

FRAMES = (
    frame_kind("pongs", "empty pongs", EMPTY_PONG),
    frame_kind("pings", "empty pings", b"\x89\x80\0\0\0\0"),
    frame_kind("binaries", "empty binary frames", b"\x82\x80\0\0\0\0"),
    frame_kind("fragments", "empty fragments", b"\0\x80\0\0\0\0", first=b"\x02\x80\0\0\0\0"),
    frame_kind("records", "TLS records of 1 byte", EMPTY_PONG, record=1),
)
BEFORE_LOGIN = (
    Kind(
        name="plain",
        title="IGNORE in plain",
        stage="upgraded",
        script=crumbs(make_plain_ignores),
    ),
    ssh_kind("ignore-early", "IGNORE", constant(IGNORE), stage="keyed"),
    ssh_kind("services", "SERVICE_REQUEST", constant(SERVICE), stage="keyed"),
    ssh_kind("none-logins", "'none' logins", constant(NONE_LOGIN), stage="keyed"),
    ssh_kind("unknown-early", "unknown messages", constant(bytes((60,))), stage="keyed"),
    Kind(
        name="returns",
        title="empty pongs, again and again",
        stage="upgraded",
        script=scripts.returning(EMPTY_PONG),
    ),
    Kind(
        name="heads",
        title="slow heads",
        stage="connected",
        script=scripts.send_slow_heads,
    ),
    Kind(
        name="keep-alive",
        title="kept-alive connections",
        stage="connected",
        script=scripts.keep_alive,
        crowds=(508,),
        needs=Needs(back_end=True, descriptors=1024),
    ),
    Kind(
        name="guesses",
        title="guesses at a costly hash",
        stage="keyed",
        script=scripts.guess,
        crowds=(30,),
        needs=Needs(costly_login=True),
    ),
)
AFTER_LOGIN = (
    ssh_kind("ignore", "IGNORE", constant(IGNORE)),
    ssh_kind("debug", "DEBUG", constant(DEBUG)),
    ssh_kind("unknown", "unknown messages", constant(UNKNOWN)),
    ssh_kind(
        "requests",
        "unknown requests",
        constant(messages.global_request(b"flood@bench", b"", want_reply=True)),
    ),
    ssh_kind(
        "ssh-pings",
        "ping requests",
        constant(messages.global_request(b"ping", b"", want_reply=True)),
    ),
    ssh_kind("refused", "refused opens", opening(lambda places: places.denied.encode())),
    ssh_kind("malformed", "malformed opens", opening(lambda _: b"\xff no target")),
    ssh_kind("closed", "opens to a closed port", opening(lambda places: places.closed.encode())),
    ssh_kind("adjustments", "window + 1", adjustment, channel=True),
    ssh_kind("empty-data", "empty data", data(b""), channel=True),
    ssh_kind("bytes", "data of 1 byte", data(b"!"), channel=True),
    ssh_kind("channel-requests", "channel requests", channel_request, channel=True),
    Kind(name="keys", title="key exchanges", stage="open", script=scripts.exchange_keys),
    Kind(
        name="sources",
        title=f"{scripts.SOURCES} UDP sources",
        stage="open",
        script=scripts.name_sources,
        crowds=(1,),
        needs=Needs(descriptors=2048),
    ),
    Kind(
        name="names",
        title=f"{scripts.NAMES} unanswered names",
        stage="open",
        script=scripts.ask_names,
        crowds=(1,),
        needs=Needs(silent_names=True),
    ),
    ssh_kind(
        "log",
        "log that is not read",
        opening(lambda places: places.denied.encode()),
        needs=Needs(unread_log=True),
    ),
)
KINDS = (*FRAMES, *BEFORE_LOGIN, *AFTER_LOGIN)
