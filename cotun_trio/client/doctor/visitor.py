"""A client without remotes, for one session: it is looked at as it gets on."""

from __future__ import annotations

import contextlib
import math
import secrets
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.client.doctor.meanings import NoAnswer
from cotun_trio.client.session import ClientSession, Stage
from cotun_trio.errors import ConnectionLost, CotunError
from cotun_trio.logs import Limits, get_logger
from cotun_trio.units import format_duration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from cotun_trio.client.met_servers import MetServers
    from cotun_trio.forwards.in_process import Inbox
    from cotun_trio.forwards.traffic import Traffic
    from cotun_trio.protocol.dialect import Dialect
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.protocol.remote_options import ProxyVersion
    from cotun_trio.protocol.target import Target
    from cotun_trio.settings import ClientSettings, ServerUrl
    from cotun_trio.ssh.scratch import Scratch
    from cotun_trio.websocket.wire import Wire

STAGE_TIMEOUT = 10.0
"""Seconds for the server to get a session from one stage to the next."""


class NoRemotes:
    """The remotes of a client that has none: the server may open nothing."""

    basic: tuple[Remote, ...] = ()
    declared: Mapping[Target, ProxyVersion] = MappingProxyType({})

    def has(self, remote: Remote) -> bool:  # noqa: ARG002
        """Return False."""
        return False

    def traffic(self, uses: Target | Remote) -> Traffic | None:
        """Return None: nothing is counted."""

    def inbox(self, target: Target) -> Inbox | None:
        """Return None: there is none."""


class Visitor:
    """The owner of one session on `wire`, see `cotun_trio.client.session.ClientHost`.

    The wire is its own.  `run` it, and meanwhile wait for each stage.
    """

    def __init__(
        self,
        settings: ClientSettings,
        url: ServerUrl,
        wire: Wire,
        dialect: Dialect,
        met: MetServers,
        scratch: Scratch,
    ) -> None:
        # The doctor chooses when something is sent.
        self.settings = attrs.evolve(
            settings,
            keepalive=0.0,
            timings=attrs.evolve(settings.timings, ws_timeout=math.inf),
        )
        self.log = get_logger("doctor")
        self.log_limits = Limits(self.log)
        self.scratch = scratch
        self.met = met
        self.identity = secrets.token_hex(16)
        self.remotes = NoRemotes()
        self.wire = wire
        self._stage = Stage.CONNECTED
        self._bytes_then = 0  # that had come when it was reached
        self._news = trio.Event()
        self.session = ClientSession(self, url, wire, dialect, self.log, self._reached)

    async def run(self) -> None:
        """Live until the session ends, for whatever reason, or until cancelled."""
        try:
            await self.session.run(deadline=math.inf)
        except CotunError:
            pass  # it is the session's `failure`
        finally:
            self._wake()

    def leave(self) -> None:
        """End the session, unless it is ending already."""
        self.session.fail(ConnectionLost("the examination is over"))

    async def reach(self, stage: Stage) -> None:
        """Wait until the session is at `stage`.

        Raises the error that ended it, and `NoAnswer` after `STAGE_TIMEOUT`.
        """
        with trio.move_on_after(STAGE_TIMEOUT):
            while self._stage < stage:
                if self.session.failure is not None:
                    raise self.session.failure
                await self._news.wait()
            return
        text = f"no answer in {format_duration(STAGE_TIMEOUT)}"
        raise NoAnswer(text, heard=self.wire.bytes_in > self._bytes_then)

    async def ping(self, timeout: float) -> None:
        """Ping, and wait for the answer.

        Raises the error that ended the session, and `NoAnswer` after `timeout` seconds.
        """
        before = self.wire.bytes_in
        with trio.move_on_after(timeout):
            await self.session.connection.ping()
            return
        text = f"no answer to a ping in {format_duration(timeout)}"
        raise NoAnswer(text, heard=self.wire.bytes_in > before)

    async def wait_lost(self) -> CotunError:
        """Wait until the session ends, and return why."""
        while self.session.failure is None:
            await self._news.wait()
        return self.session.failure

    def _reached(self, stage: Stage) -> None:
        self._stage, self._bytes_then = stage, self.wire.bytes_in
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, trio.Event()
        news.set()

    # ---- as the owner of the session

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[tuple[str, ...]]:
        """See `cotun_trio.client.session.ClientHost`: there is no other session."""
        yield ()

    def session_opened(self, session: ClientSession) -> None:
        """See `cotun_trio.client.session.ClientHost`."""

    def session_left(self, session: ClientSession) -> None:  # noqa: ARG002
        """See `cotun_trio.client.session.ClientHost`."""
        self._wake()

    def retrying(self, seconds: float, failure: CotunError) -> None:
        """See `cotun_trio.client.session.ClientHost`: there is no other try."""
