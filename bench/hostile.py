"""A hostile server, a process of its own: lets a client in, carries its tunnel, and floods it.

What comes through the tunnel it sends back itself, before more of the flood.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
import struct
from typing import TYPE_CHECKING

import paramiko
import trio

from bench.attacker import NICENESS, Report
from bench.processes import LOOPBACK, PATIENCE
from bench.raw_peer import FAILURES, MAX_PACKET, WINDOW, Address, RawPeer
from cotun_trio.ssh import messages
from cotun_trio.ssh.engine import KeysAgreed, LoginRequested

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from bench.hostile_kinds import HostileKind

CRUMBS = 400_000
AT_ONCE = 200
"""Crumbs that are sent before it is looked whether there is something to send back."""
BUFFER = 32 * 1024
"""Bytes that wait to be sent: what is sent back has to wait behind them."""
UPGRADED = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: {}\r\n\r\n"
)
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455 section 1.3."""


class Session:
    """One client."""

    def __init__(self, peer: RawPeer, report: Report) -> None:
        self._peer = peer
        self._report = report
        self._channels: dict[int, int] = {}  # the client's number of each of ours
        self._sending = trio.Lock()

    async def open(self) -> None:
        """Let the client in, with any name and password."""
        peer = self._peer
        key = b""
        for line in (await peer.receive_head()).split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"sec-websocket-key":
                key = value.strip()
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
        await peer.send(UPGRADED.format(accept).encode())
        await peer.flush()
        await peer.wait_for(KeysAgreed)
        await peer.wait_for(LoginRequested)
        peer.engine.answer_login(accepted=True)
        await peer.flush()
        await peer.wait_for_message(messages.GLOBAL_REQUEST)  # the config request
        await self._send(bytes((messages.REQUEST_SUCCESS,)))

    async def carry(self) -> None:
        """Do what a tunnel's end does, for ever."""
        while True:
            event = await self._peer.next_event()
            if isinstance(event, bytes) and (answers := self._answers(event)):
                await self._send(*answers)

    def _answers(self, message: bytes) -> list[bytes]:
        kind = message[0]
        if kind == messages.GLOBAL_REQUEST:  # a ping
            return [bytes((messages.REQUEST_SUCCESS,))]
        if kind == messages.CHANNEL_OPEN:
            (size,) = struct.unpack_from(">I", message, 1)
            (number,) = struct.unpack_from(">I", message, 5 + size)
            self._channels[number] = number
            return [messages.open_confirmation(number, number, WINDOW, MAX_PACKET)]
        if kind not in (messages.CHANNEL_DATA, messages.CHANNEL_EOF, messages.CHANNEL_CLOSE):
            return []
        (number,) = struct.unpack_from(">I", message, 1)
        if kind == messages.CHANNEL_DATA:
            return [message, messages.window_adjust(number, len(message) - 9)]
        if self._channels.pop(number, None) is None:
            return []
        return [messages.about_channel(kind, number) for kind in _ENDS]

    async def _send(self, *payloads: bytes) -> None:
        async with self._sending:
            self._peer.say(*payloads)
            await self._peer.flush()

    async def flood(self, kind: HostileKind, stopped: Callable[[], bool]) -> None:
        """Send crumbs, so many at most."""
        for _ in range(CRUMBS // AT_ONCE):
            if stopped():
                return
            async with self._sending:
                channel = next(iter(self._channels), 0)
                data = kind.make(self._peer, channel, AT_ONCE)
                await self._peer.send(data)
                self._report.sent += len(data)
            await trio.lowlevel.checkpoint()


_ENDS = (messages.CHANNEL_EOF, messages.CHANNEL_CLOSE)


class HostileServer:
    """Serves clients, and floods each that is there when the parent says so."""

    def __init__(self, parent: Connection, kind: HostileKind) -> None:
        self._parent = parent
        self._kind = kind
        self._key = paramiko.ECDSAKey.generate(bits=256)
        self._report = Report()
        self._open, self._go, self._stopped = trio.Event(), trio.Event(), trio.Event()

    async def run(self) -> None:
        """Say where it listens, then what `bench.attacker.Attack` says."""
        listener = socket.create_server((LOOPBACK, 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self._parent.send(listener.getsockname()[1])
        accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._serve, [accepting])
            with trio.fail_after(PATIENCE):
                await self._open.wait()
            self._parent.send(self._report)
            for event in (self._go, self._stopped):
                await self._hear()
                event.set()
            await self._hear()
            self._parent.send(self._report)
            nursery.cancel_scope.cancel()

    async def _hear(self) -> None:
        await trio.lowlevel.wait_readable(self._parent.fileno())
        self._parent.recv()

    async def _serve(self, stream: trio.SocketStream) -> None:
        session = Session(RawPeer(stream, Address(port=0), self._key), self._report)
        with contextlib.suppress(*FAILURES):
            await session.open()
            self._report.connections += 1
            self._open.set()
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._flood, session, scope)
                    with contextlib.suppress(*FAILURES):
                        await session.carry()
                    self._report.cut += 1
                    scope.cancel()

    async def _flood(self, session: Session, scope: trio.CancelScope) -> None:
        await self._go.wait()
        try:
            await session.flood(self._kind, self._stopped.is_set)
        except FAILURES:
            scope.cancel()


def be_hostile(parent: Connection, kind: HostileKind) -> None:
    """Be a hostile server, as a process."""
    os.nice(NICENESS)
    trio.run(HostileServer(parent, kind).run)
