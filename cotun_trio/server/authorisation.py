"""A hook that is asked for each declared remote and for each connection,
after the settings and the access list have allowed it.

It is code of the embedding program, and an error in it denies, for this time.  Its time limit is
the caller's: the handshake has its deadline, a connection that of a dial.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from cotun_trio.errors import NotNow, Refused
from cotun_trio.units import format_duration

if TYPE_CHECKING:
    from cotun_trio.logs import Context

Hook = Callable[[str, str, str], Awaitable[str | None]]
"""Called with the user's name, the address that the client comes from, and the remote or target, in
the form that access lists match.  Returns None to allow it, or why not; or raises `Refused` with
that.
"""


class Authorisation:
    """Asks `hook`."""

    def __init__(self, hook: Hook) -> None:
        self._hook = hook

    async def refusal(
        self, user: str, peer: str, address: str, *, timeout: float, log: Context
    ) -> str | None:
        """Return why `user` may not have `address`; None where it may.

        Raises `NotNow` where there is no decision: after `timeout` seconds, after an error in the
        hook, or where that says so.  The hook is cancelled with its caller.
        """
        try:
            with trio.fail_after(timeout):
                return await self._hook(user, peer, address)
        except trio.TooSlowError:
            log.warning("authorise took more than %s for %s", format_duration(timeout), address)
        except NotNow:
            raise
        except Refused as error:
            return str(error)
        except Exception:
            log.exception("authorise failed for %s: denied", address)
        raise NotNow(f"access to '{address}' denied")
