"""The client: its local listeners, and the sessions that carry what arrives there.

Listeners belong to the client, not to a session: a connection that arrives while there is none
waits for the next, up to a limit.  The sessions come from the `cotun_trio.client.connector`.

It runs in three nurseries, one in the other: what accepts, the sessions with their streams, and the
connector.  At the end they end in this order, so that what is open gets its time.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.client.connector import Connector
from cotun_trio.errors import ConnectionLost, CotunError, UsageError
from cotun_trio.forwards.listener import open_listener
from cotun_trio.forwards.stdio import carry_stdio
from cotun_trio.logs import Limits, get_logger
from cotun_trio.net.sockets import close
from cotun_trio.snapshot import snapshot
from cotun_trio.ssh.scratch import Scratch
from cotun_trio.system.systemd import Notifier
from cotun_trio.units import format_duration

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

    from cotun_trio.client.session import ClientSession
    from cotun_trio.client.uplink import AnyUplink
    from cotun_trio.forwards.in_process import Inbox
    from cotun_trio.forwards.listener import Listener
    from cotun_trio.forwards.running import Tally
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.protocol.target import Target
    from cotun_trio.settings import ClientSettings


class Client:
    """A tunnel client.  Raises `UsageError` where its TLS files cannot be used.

    `reread` gives the settings as they are by now, for `reload`; it may block, and raise
    `UsageError`.  `notifier` knows who wants to hear how the client is.  `uplink` dials servers, if
    the network is not to be used.
    """

    def __init__(
        self,
        settings: ClientSettings,
        reread: Callable[[], ClientSettings] | None = None,
        notifier: Notifier | None = None,
        uplink: AnyUplink | None = None,
    ) -> None:
        self.notifier = notifier or Notifier({})
        self.settings = settings
        self._reread = reread
        self._listeners: list[Listener] = []
        self.log = get_logger("client")
        self.log_limits = Limits(self.log)
        """See `cotun_trio.client.session.Owner`."""
        # For lines that every local program can cause, by connecting to a listener.
        self._local_log = self.log.limited(self.log_limits.of("local connections"))
        self.scratch = Scratch()
        self.identity = secrets.token_hex(16)
        """Told to servers of our kind: whoever has it may take its reverse listeners over."""
        self.declared = _targets(settings.remotes)
        """What servers may open channels to."""
        self._session: ClientSession | None = None  # the open one
        self._opened = trio.Event()  # set while there is one
        self._failure: CotunError | None = None  # what ends the client
        self._connector = Connector(self, uplink)
        self._accepting: trio.Nursery | None = None  # while it accepts
        self._shutdown = trio.Event()
        self._reload = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and stay connected until `shut_down`, and until that is done, or until cancelled.

        Started when all remotes are listening.  Returns, too, when a stdio remote has come to its
        end.  Raises `UsageError` where a remote cannot listen, the `CotunError` that cannot heal or
        that ended a stdio remote, or `GaveUp`.
        """
        try:
            for remote in self.settings.remotes:
                if remote.local:
                    await self._listen(remote)
            async with trio.open_nursery() as process:
                await self._serve(process, task_status)
                process.cancel_scope.cancel()
        finally:
            self._stop_listening()
        if self._failure is not None:
            raise self._failure

    def shut_down(self) -> None:
        """Accept nothing more, let what is open end for a while, and then let `run` return.

        The while is `Timings.shutdown_grace`; what has not ended by then is cut.
        """
        self._shutdown.set()

    def _end(self, failure: CotunError | None) -> None:
        """Let `run` end, by raising `failure` if there is one.  Only the first end counts."""
        if not self._shutdown.is_set():
            self._failure = failure
            self.shut_down()

    async def _serve(self, process: trio.Nursery, task_status: trio.TaskStatus[None]) -> None:
        """Accept and carry until it is time to end, and then see out what is open."""
        connecting = trio.CancelScope()
        async with trio.open_nursery() as sessions:

            async def connect() -> None:
                with connecting:
                    self._end(await self._connector.run(sessions))

            process.start_soon(connect)
            process.start_soon(self.log_limits.run)
            async with trio.open_nursery() as accepting:
                self._accepting = accepting
                for listener in self._listeners:
                    accepting.start_soon(self._serve_listener, accepting, listener)
                for remote in self.settings.remotes:
                    if remote.stdio:
                        accepting.start_soon(self._wait_to_carry_stdio, remote)
                accepting.start_soon(self._reload_when_asked, accepting)
                task_status.started()
                await self._shutdown.wait()
                accepting.cancel_scope.cancel()
            self._accepting = None
            self._stop_listening()
            connecting.cancel()
            grace = self.settings.timings.shutdown_grace
            self.notifier.stopping(grace)
            sessions.cancel_scope.deadline = trio.current_time() + grace
            if any(not session.quiet for session in self._connector.sessions):
                self.log.info(
                    "Shutting down, open connections have %s to end", format_duration(grace)
                )
            for session in list(self._connector.sessions):
                if session.was_open:
                    session.drain("the client is shutting down")
                else:
                    session.fail(ConnectionLost("the client is shutting down"))

    async def _listen(self, remote: Remote) -> Listener:
        listener = await self.open_listener(remote)
        self._listeners.append(listener)
        for address in listener.addresses:
            self.log.info("Listening on %s for %s", address, remote)
        return listener

    async def open_listener(self, remote: Remote) -> Listener:
        """Listen for `remote`.  Raises `UsageError`, with nothing left open."""
        return await open_listener(remote)

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.close()

    def retry_now(self) -> None:
        """Cut the present wait for the next attempt short."""
        self._connector.retry_now()

    def log_snapshot(self) -> None:
        """Log what is going on."""
        present = [session for session in self._connector.sessions if session.was_open]
        self.log.info("%s", snapshot(self._connector.past, present))

    @property
    def addresses(self) -> list[str]:
        """Where the remotes listen here, ``host:port`` each, once `run` has started."""
        return [address for listener in self._listeners for address in listener.addresses]

    # ---- other remotes

    def reload(self) -> None:
        """Read the remotes again, soon, and cut the present wait for the next attempt short."""
        self.retry_now()
        self._reload.set()

    async def _reload_when_asked(self, accepting: trio.Nursery) -> None:
        while self._reread is not None:
            await self._reload.wait()
            self._reload = trio.Event()
            with self.notifier.reloading():
                try:
                    settings = await trio.to_thread.run_sync(self._reread, abandon_on_cancel=True)
                    if attrs.evolve(settings, remotes=self.settings.remotes) != self.settings:
                        self.log.warning("what is new besides remotes counts after a restart")
                    await self._change_remotes(settings.remotes, accepting)
                except CotunError as error:
                    self.log.warning("%s: the remotes stay as they were", error)

    async def _change_remotes(self, remotes: tuple[Remote, ...], accepting: trio.Nursery) -> None:
        """Do what it takes for other remotes; what is the same goes on.

        Raises `CotunError` where the server does not allow it, and then nothing has changed.
        """
        before = self.settings.remotes
        changed = set(before) ^ set(remotes)
        if not changed:
            return
        if any(remote.stdio for remote in changed):
            raise UsageError("a stdio remote cannot come or go")
        if any(remote.reverse for remote in changed) and self._session is not None:
            # What the server opens behind its answer is allowed already.
            self.declared |= _targets(remotes)
            try:
                await self._session.change_remotes(remotes)
            except CotunError:
                self.declared = _targets(before)
                raise
        self.settings = attrs.evolve(self.settings, remotes=remotes)
        self.declared = _targets(remotes)
        for listener in list(self._listeners):
            if listener.remote not in remotes:
                self.log.info("no longer listening for %s", listener.remote)
                self._listeners.remove(listener)
                listener.close()
        for session in self._connector.sessions:
            session.forwards.cut(session.may_go_on)
        for remote in remotes:
            if remote.local and remote not in before:
                try:
                    listener = await self._listen(remote)
                except UsageError as error:
                    self.log.warning("%s", error)
                else:
                    accepting.start_soon(self._serve_listener, accepting, listener)

    # ---- what arrives here

    async def _serve_listener(self, nursery: trio.Nursery, listener: Listener) -> None:
        def accepted(remote: Remote, sock: socket.socket, peer: str) -> None:
            if self._session is not None:
                self._session.forward(sock, peer, remote)
            else:
                nursery.start_soon(self._wait_for_session, remote, sock, peer)

        await listener.serve(
            accepted,
            lambda: self._session,
            udp_max_size=self.settings.timings.udp_max_size,
            log=self._local_log.within(remote=listener.remote),
        )

    async def _wait_to_carry_stdio(self, remote: Remote) -> None:
        """Have the first session carry standard input and output."""
        try:
            session = await self.wait_session()
        except ConnectionLost:
            self._end(ConnectionLost(f"no tunnel for {remote}"))
        else:
            session.start_soon(self._carry_stdio, session, remote)

    async def _carry_stdio(self, session: ClientSession, remote: Remote) -> None:
        """Carry standard input and output, and end the client after it."""
        failure: CotunError | None = ConnectionLost("the tunnel was lost")
        try:
            with session.forwards.begin(remote):
                channel = await session.connection.open_channel(remote.channel_target)
                await carry_stdio(channel)
                failure = None
        except CotunError as error:
            failure = error
        finally:
            self._end(failure)

    async def wait_session(self) -> ClientSession:
        """Return the open session; wait for one for `Timings.ssh_wait` seconds at most.

        Raises `ConnectionLost` where there is none.
        """
        with trio.move_on_after(self.settings.timings.ssh_wait) as waiting:
            while self._session is None:
                await self._opened.wait()
            return self._session
        assert waiting.cancelled_caught
        raise ConnectionLost("there is no tunnel at present")

    async def _wait_for_session(self, remote: Remote, sock: socket.socket, peer: str) -> None:
        """Forward a connection that came while there was no session, when there is one."""
        handed_over = False
        try:
            with contextlib.suppress(ConnectionLost):
                (await self.wait_session()).forward(sock, peer, remote)
                handed_over = True
        finally:
            if not handed_over:
                self._local_log.info("no tunnel for %s from %s: closed", remote, peer)
                close(sock, reset=True)

    # ---- sessions

    def has(self, remote: Remote) -> bool:
        """See `cotun_trio.client.session.Owner`."""
        return remote in self.settings.remotes

    def tally(self, uses: Target | Remote) -> Tally | None:  # noqa: ARG002
        """See `cotun_trio.client.session.Owner`: nothing is counted here."""
        return None

    def inbox(self, target: Target) -> Inbox | None:  # noqa: ARG002
        """See `cotun_trio.client.session.Owner`: all targets are dialled."""
        return None

    def session_opened(self, session: ClientSession) -> None:
        """Give the session to whoever waits for one."""
        self._session = session
        self._opened.set()
        self.notifier.ready(f"Connected to {session.url}")
        if session.remotes != self.settings.remotes:  # they have changed meanwhile
            session.start_soon(self._tell_remotes, session)

    async def _tell_remotes(self, session: ClientSession) -> None:
        try:
            await session.change_remotes(self.settings.remotes)
        except CotunError as error:
            self.log.warning("%s", error)

    def retrying(self, seconds: float, failure: CotunError) -> None:
        """There is no session, and will not be one for some seconds."""
        waiting = format_duration(round(seconds, 3))
        self.log.info("Retrying in %s...", waiting)
        self.notifier.status(f"Retrying in {waiting}: {failure}")

    def session_left(self, session: ClientSession) -> None:
        """Let connections wait for the next session from now on."""
        if self._session is session:
            self._session = None
            self._opened = trio.Event()


def _targets(remotes: Iterable[Remote]) -> frozenset[Target]:
    """Return what servers may open channels to."""
    return frozenset(remote.target for remote in remotes if remote.reverse)
