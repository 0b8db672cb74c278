"""What an attacker does by each of its connections: a script for each way to be a nuisance.

A script gets ready, says so and waits for the beginning; what it raises then is that it was cut.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeAlias

import trio

from bench.attacker import PIECE
from bench.raw_peer import FAILURES, MAX_PACKET, PeerError
from cotun_trio.protocol.gob_encoder import Encoder
from cotun_trio.ssh import messages
from cotun_trio.ssh.engine import KeysRenewed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from bench.attacker import Attack
    from bench.flood_kinds import Places
    from bench.raw_peer import RawPeer

    Ready: TypeAlias = Callable[[], Awaitable[None]]
    Script: TypeAlias = Callable[[Attack, int, Ready], Awaitable[None]]
    Make: TypeAlias = Callable[[RawPeer, Places, int], bytes]
    """Gives about so many bytes of a flood, as they are inside TLS."""

SOURCES = 3000
"""UDP sources of one channel."""
SOURCES_AT_ONCE = 50
NAMES = 200
"""Names that are asked for at once."""
GUESSES = 3
"""Passwords tried by one connection: no server takes more."""
RETURNED = 16 * 1024
"""Bytes that one who comes again and again sends each time: enough to be cut."""
PAUSE = 0.1
"""Seconds after which one who was refused comes again."""
SLOW = 0.002
"""Seconds from one byte to the next of a head."""
REQUEST = b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n"
SLOW_HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "


@contextlib.asynccontextmanager
async def drained(peer: RawPeer) -> AsyncIterator[None]:
    """Take everything that the server sends meanwhile.  Raises `PeerError` when it is cut."""
    async with trio.open_nursery() as nursery:

        async def drain() -> None:
            await peer.drain()
            nursery.cancel_scope.cancel()

        nursery.start_soon(drain)
        with contextlib.suppress(trio.BrokenResourceError):
            yield
        await trio.sleep_forever()
    raise PeerError("the server has ended the connection")


def crumbs(make: Make, *, channel: bool = False, sustained: bool = False) -> Script:
    """Return the script that sends a burst of what `make` gives, and goes on where `sustained`."""

    async def script(attack: Attack, _number: int, ready: Ready) -> None:
        places = attack.orders.places
        peer = await attack.connect(target=places.allowed if channel else None)
        burst = peer.sealed(make(peer, places, attack.burst))
        async with drained(peer):
            await ready()
            await attack.send(peer, burst)
            while sustained and not attack.stopped.is_set():
                await attack.send(peer, peer.sealed(make(peer, places, PIECE)))

    return script


def returning(frame: bytes) -> Script:
    """Return the script that sends 16 KiB of a frame, is cut for it, and comes again at once."""
    flood = frame * (RETURNED // len(frame))

    async def script(attack: Attack, _number: int, ready: Ready) -> None:
        await ready()
        while not attack.stopped.is_set():
            peer = None
            try:
                peer = await attack.connect()
                await attack.send(peer, peer.sealed(flood))
                await peer.drain()
            except FAILURES:
                await trio.lowlevel.checkpoint()
            finally:
                if peer is not None:
                    peer.close()

    return script


async def exchange_keys(attack: Attack, _number: int, ready: Ready) -> None:
    """Have new keys again and again, as a guest."""
    peer = await attack.connect()
    await ready()
    while not attack.stopped.is_set():
        peer.engine.start_rekey()
        attack.report.sent += len(peer.engine.packetizer.out)
        await peer.flush()
        await peer.wait_for(KeysRenewed)
    async with drained(peer):
        pass


async def name_sources(attack: Attack, _number: int, ready: Ready) -> None:
    """Send datagrams from many sources by one UDP channel, and from all of them again."""
    peer = await attack.connect(target=attack.orders.places.datagrams)
    encoder = Encoder()
    async with drained(peer):
        await ready()
        while not attack.stopped.is_set():
            for first in range(0, SOURCES, SOURCES_AT_ONCE):
                numbers = range(first, first + SOURCES_AT_ONCE)
                sources = (f"10.0.{number >> 8}.{number & 255}:5000" for number in numbers)
                data = b"".join(encoder.encode(source, b"!") for source in sources)
                head = messages.about_channel(messages.CHANNEL_DATA, peer.channel)
                peer.say(head + messages.string(data))
                await attack.send(peer, peer.sealed(peer.waiting()))
            await trio.sleep(1)


async def ask_names(attack: Attack, _number: int, ready: Ready) -> None:
    """Have the server look up names that nobody answers for."""
    peer = await attack.connect()
    for number in range(NAMES):
        target = f"silent{number}.test:80".encode()
        peer.say(messages.channel_open(b"chisel", number, MAX_PACKET, MAX_PACKET, target))
    burst = peer.sealed(peer.waiting())
    async with drained(peer):
        await ready()
        await attack.send(peer, burst)


async def guess(attack: Attack, number: int, ready: Ready) -> None:
    """Guess one user's password, from an address of its own."""
    service = bytes((messages.SERVICE_REQUEST,)) + messages.string(b"ssh-userauth")
    wrong = password_login(attack.orders.places.costly_user)
    await ready()
    while not attack.stopped.is_set():
        peer = None
        try:
            peer = await attack.connect(source=f"127.0.1.{number + 1}")
            peer.say(service, *[wrong] * GUESSES)
            await attack.send(peer, peer.sealed(peer.waiting()))
            await peer.drain()
        except FAILURES:
            await trio.sleep(PAUSE)
        finally:
            if peer is not None:
                peer.close()


def password_login(user: str) -> bytes:
    """Return a login with a wrong password (RFC 4252 section 8)."""
    fields = (user.encode(), b"ssh-connection", b"password")
    head = bytes((messages.USERAUTH_REQUEST,)) + b"".join(map(messages.string, fields))
    return head + b"\0" + messages.string(b"wrong")


async def keep_alive(attack: Attack, number: int, ready: Ready) -> None:
    """Make a request that the back end answers, and keep the connection."""
    await ready()
    async with attack.limit:  # more at once would be too many that have not sent a head yet
        peer = await attack.connect()
        await attack.send(peer, peer.sealed(REQUEST % number))
        await peer.receive()
    async with drained(peer):
        pass


async def send_slow_heads(attack: Attack, _number: int, ready: Ready) -> None:
    """Send the head of a request byte by byte, and then another one."""
    await ready()
    while not attack.stopped.is_set():
        peer = await attack.connect()
        try:
            for at in range(len(SLOW_HEAD)):
                await attack.send(peer, peer.sealed(SLOW_HEAD[at : at + 1]))
                await trio.sleep(SLOW)
            while not attack.stopped.is_set():
                await attack.send(peer, peer.sealed(b"x"))
                await trio.sleep(SLOW)
        except trio.BrokenResourceError:
            attack.report.cut += 1
        finally:
            peer.close()
