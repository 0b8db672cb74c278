"""The stdio remote of a client: it waits for a session, has that carry it, and ends the client.

It does not outlive the program that it works for, which is ssh most of the time: when standard
output has hung up, or standard input is a terminal that has, nobody is there.  A pipe or a socket
as standard input is another matter: its hang-up is the end of file, and the answer may still be
wanted.  Only when there is nothing to send, and no tunnel was to be had, there is no reason to try
on.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from cotun_trio.errors import ConnectionLost, CotunError
from cotun_trio.forwards.counted import Counted
from cotun_trio.forwards.stdio import STDIN, STDOUT, carry_stdio
from cotun_trio.system.hang_up import has_bytes, has_hung_up, wait_hung_up

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cotun_trio.client.session import ClientSession
    from cotun_trio.forwards.flows import Flow
    from cotun_trio.logs import Context
    from cotun_trio.protocol.remote import Remote

BOTH = 0.1
"""Seconds between the two hang-ups of a program that ends: it closes one after the other."""


class StdioForward:
    """Carries standard input and output for `remote`, once.

    `wait_session` returns the session, or raises `ConnectionLost`; `end` ends the client, with an
    error or None.
    """

    def __init__(
        self,
        remote: Remote,
        wait_session: Callable[[], Awaitable[ClientSession]],
        end: Callable[[CotunError | None], None],
        log: Context,
    ) -> None:
        self._remote = remote
        self._wait_session = wait_session
        self._end = end
        self._log = log
        self._flow: Flow | None = None
        self._has_session = False
        self._failing = trio.Event()

    async def run(self) -> None:
        """Wait for a session and for hang-ups, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, STDOUT, "standard output")
            if os.isatty(STDIN):
                nursery.start_soon(self._watch, STDIN, "the terminal")
            else:
                nursery.start_soon(self._watch_input)
            try:
                session = await self._wait_session()
            except ConnectionLost:
                self._end(ConnectionLost(f"no tunnel for {self._remote}"))
            else:
                self._has_session = True
                session.start_soon(self._carry, session)

    def retrying(self) -> None:
        """There is no tunnel, and will not be one for a while."""
        self._failing.set()

    def hang_up(self) -> None:
        """End the client, and break the connection off: nobody is there for it."""
        self._end(None)
        if self._flow is not None:
            self._flow.cut()

    async def _watch(self, descriptor: int, name: str) -> None:
        await wait_hung_up(descriptor)
        self._log.info("%s has hung up", name)
        self.hang_up()

    async def _watch_input(self) -> None:
        await self._failing.wait()
        await wait_hung_up(STDIN)
        await trio.sleep(BOTH)
        if not (self._has_session or has_bytes(STDIN) or has_hung_up(STDOUT)):
            reason = "standard input has ended, and there is nothing to send"
            self._end(ConnectionLost(f"no tunnel for {self._remote}: {reason}"))

    async def _carry(self, session: ClientSession) -> None:
        """Carry standard input and output, and end the client after it."""
        failure: CotunError | None = ConnectionLost("the tunnel was lost")
        try:
            with session.flows.begin(self._remote, lingers=True) as self._flow:
                counted = Counted(session, self._flow)
                channel = await counted.open_channel(self._remote.channel_target)
                await carry_stdio(channel)
                failure = None
        except CotunError as error:
            failure = error
        finally:
            self._end(failure)
