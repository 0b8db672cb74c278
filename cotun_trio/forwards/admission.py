"""Whom a listener lets in, and whom it believes about that.

A listener with no rules lets everybody in, and has none of this on its way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from cotun_trio.counts import meters
from cotun_trio.errors import ConnectionLost, CotunError
from cotun_trio.forwards.per_minute import PerMinute
from cotun_trio.forwards.visitor import Visitor
from cotun_trio.net.proxy_protocol import read_header
from cotun_trio.net.sockets import close
from cotun_trio.protocol.networks import is_within

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any

    from cotun_trio.logs import Context
    from cotun_trio.protocol.networks import Network

MAX_READING = 1024
"""Connections of one listener whose header is still to come, as many as may wait in the kernel."""

NOT_ALLOWED = "not_allowed"
BAD_HEADER = "bad_header"
TOO_MANY = "too_many"
_WORDS = {
    NOT_ALLOWED: "not allowed from there",
    BAD_HEADER: "no PROXY header",
    TOO_MANY: "too many without a PROXY header yet",
}


@attrs.frozen
class Admission:
    """The rules of a listener about its visitors."""

    allow: tuple[tuple[Network, ...], ...] = ()
    """Lists of networks: each that has any has to have the visitor."""
    accept_proxy: tuple[Network, ...] = ()
    """Balancers, whose connections begin with a PROXY header."""

    def limited_to(self, networks: tuple[Network, ...]) -> Admission:
        """Return the same for visitors of `networks` only; none are all."""
        return attrs.evolve(self, allow=(*self.allow, networks)) if networks else self

    @property
    def chooses(self) -> bool:
        """Whether there are visitors who are not let in."""
        return any(self.allow)

    @property
    def is_open(self) -> bool:
        """Whether there are no rules."""
        return not (self.accept_proxy or self.chooses)

    def admits(self, host: str) -> bool:
        """Return whether a visitor with this address is let in."""
        return all(is_within(host, networks) for networks in self.allow if networks)


EVERYBODY = Admission()


class Gate:
    """Lets connections of one listener in by the rules of `admission`: `accepted` takes them over.

    The others are reset, counted, and told once a minute in `log`.
    """

    def __init__(
        self,
        admission: Admission,
        accepted: Callable[[socket.socket, Visitor], None],
        start_soon: Callable[..., Any],
        log: Context,
    ) -> None:
        self._admission = admission
        self._accepted = accepted
        self._start_soon = start_soon
        self._log = log
        self._told = PerMinute("refused %d visitors: %s", log, start_soon)
        self._reading = 0

    def take(self, sock: socket.socket, visitor: Visitor) -> None:
        """Let a connection in, or refuse it; where it begins with a header, when that is there."""
        if not is_within(visitor.host, self._admission.accept_proxy):
            self._let_in(sock, visitor)
        elif self._reading >= MAX_READING:
            self._refuse(sock, visitor, TOO_MANY)
        else:
            self._reading += 1
            self._start_soon(self._read, sock, visitor)

    async def _read(self, sock: socket.socket, visitor: Visitor) -> None:
        try:
            header = await read_header(sock)
        except ConnectionLost as error:  # a balancer that looks whether this port answers
            self._log.debug("%s: %s", visitor, error)
            close(sock, reset=True)
            return
        except CotunError:
            self._refuse(sock, visitor, BAD_HEADER)
            return
        except BaseException:
            close(sock, reset=True)
            raise
        finally:
            self._reading -= 1
        if header.endpoints is not None:
            visitor = Visitor(None, header.endpoints)
        self._let_in(sock, visitor)

    def _let_in(self, sock: socket.socket, visitor: Visitor) -> None:
        if self._admission.admits(visitor.host):
            self._accepted(sock, visitor)
        else:
            self._refuse(sock, visitor, NOT_ALLOWED)

    def _refuse(self, sock: socket.socket, visitor: Visitor, outcome: str) -> None:
        close(sock, reset=True)
        meters().visitors.add(outcome)
        self._told.count(_WORDS[outcome])
        self._log.event("refused", reason=_WORDS[outcome], source=visitor)
