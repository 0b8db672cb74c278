"""Keepalive: a session pings its peer, and ends where there is no answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from cotun_trio.errors import ConnectionLost, CotunError
from cotun_trio.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.ssh.connection import Connection


async def keep_alive(
    connection: Connection, interval: float, timeout: float, failed: Callable[[CotunError], None]
) -> None:
    """Ping the peer every `interval` seconds until it does not answer in `timeout` seconds.

    That is the error that `failed` is called with.  Returns at once where the interval is 0, and
    when the connection has ended otherwise.
    """
    if not interval:
        return
    try:
        while True:
            await trio.sleep(interval)
            with trio.fail_after(timeout):
                await connection.ping()
    except trio.TooSlowError:
        failed(ConnectionLost(f"no answer to a ping in {format_duration(timeout)}"))
    except CotunError:
        pass  # the session knows why
