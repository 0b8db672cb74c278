"""The two ends of a stream: TCP and Unix sockets, in any combination.

Both begin in the callback that brings them their connection, and leave the rest to a task: the wish
for a channel goes out with the accepting, and a target on the same machine is dialled, and its
channel accepted, in the read that brought the wish.  To wait for the task's turn first would cost
each connection two turns of Trio's loop at either end, a tenth of the time until the first byte.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import trio

from cotun_trio.counts import meters
from cotun_trio.errors import CotunError, DialFailed, Shortage
from cotun_trio.forwards.relay import Relay
from cotun_trio.net.dial import dial_at_once, dial_tcp
from cotun_trio.net.sockets import close
from cotun_trio.net.unix import dial_unix
from cotun_trio.ssh import messages
from cotun_trio.units import show_bytes

if TYPE_CHECKING:
    import socket

    from cotun_trio.forwards.open_session import OpenSession
    from cotun_trio.logs import Context
    from cotun_trio.net.dial import AddressCheck
    from cotun_trio.net.names import Share
    from cotun_trio.protocol.target import Target
    from cotun_trio.ssh.channel import Channel
    from cotun_trio.ssh.openings import IncomingOpen


class Outgoing:
    """A connection that was accepted here, on its way to the peer.  Owns `sock`.

    `target` is the data of the channel open, and `header` goes first in the channel: a PROXY
    header, which reaches the target by any peer.
    """

    def __init__(
        self,
        session: OpenSession,
        sock: socket.socket,
        target: bytes,
        log: Context,
        header: bytes = b"",
    ) -> None:
        self._session = session
        self._sock = sock
        self._log = log
        self._header = header
        self._relay: Relay | None = None
        self._pending = session.connection.ask(target, self._opened)

    def _opened(self, channel: Channel) -> None:
        self._relay = Relay(channel, self._sock)
        if not self._header:
            self._relay.begin()

    async def run(self) -> None:
        """Carry it; where the peer refuses, the socket is reset, and the reason logged."""
        try:
            await self._session.connection.answer(self._pending)
        except CotunError as error:
            self._log.refused(error)
            close(self._sock, reset=True)
            return
        except BaseException:
            close(self._sock, reset=True)
            raise
        assert self._relay is not None
        if self._header:
            await self._send_header(self._relay.channel)
        await carry(self._relay, self._log)

    async def _send_header(self, channel: Channel) -> None:
        rest = memoryview(self._header)
        try:
            while rest:
                await channel.wait_sendable()
                size = min(channel.at_once, len(rest))
                channel.send_now(rest[:size])
                rest = rest[size:]
        except trio.BrokenResourceError:
            pass  # the relay sees it, too
        except BaseException:
            channel.close()
            close(self._sock, reset=True)
            raise


class Incoming:
    """A connection that the peer wants to `target`: its channel is accepted once it is there.

    A name is looked up in the peer's `share`; its addresses have to pass `check`, if there is one.
    `header` goes to the target first: a PROXY header.
    """

    def __init__(
        self,
        opening: IncomingOpen,
        target: Target,
        *,
        share: Share,
        timeout: float,
        log: Context,
        check: AddressCheck | None = None,
        header: bytes = b"",
    ) -> None:
        self._opening = opening
        self._target = target
        self._share = share
        self._check = check
        self._header = header
        self._timeout = timeout
        self._log = log
        self._relay: Relay | None = None
        self._began = trio.current_time()
        if not target.path and (sock := dial_at_once(target.host, target.port)) is not None:
            self._relay = self._connected(sock)

    async def run(self) -> None:
        """Dial, unless that is done, and carry it."""
        target = self._target
        if self._relay is None:
            try:
                if target.path:
                    sock = await dial_unix(target.path, timeout=self._timeout)
                else:
                    sock = await dial_tcp(
                        target.host,
                        target.port,
                        timeout=self._timeout,
                        share=self._share,
                        check=self._check,
                    )
            except DialFailed as error:
                self._log.failed(error)
                self._opening.refuse(refusal_code(error), str(error))
                return
            self._relay = self._connected(sock)
        await carry(self._relay, self._log)

    def _connected(self, sock: socket.socket) -> Relay:
        meters().dials.add(trio.current_time() - self._began)
        if self._header:
            with contextlib.suppress(OSError):  # a reset, which the relay sees, too
                sock.send(self._header)  # a new socket has room for all of it
        return Relay(self._opening.confirm(), sock)


def refusal_code(error: DialFailed) -> int:
    """Return the reason code for a channel whose target could not be dialled."""
    if isinstance(error, Shortage):
        return messages.OPEN_RESOURCE_SHORTAGE
    return messages.OPEN_CONNECT_FAILED


async def carry(relay: Relay, log: Context) -> None:
    """Run `relay`, and log its beginning and its end."""
    if not log.isEnabledFor(logging.DEBUG):
        await relay.run()
        return
    log.debug("open")
    try:
        await relay.run()
    finally:
        channel = relay.channel
        sent, received = show_bytes(channel.bytes_out), show_bytes(channel.bytes_in)
        log.debug("closed, %s sent and %s received", sent, received)
