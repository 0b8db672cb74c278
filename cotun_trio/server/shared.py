"""The state that a server may share with other processes that serve the same port
(`cotun_trio.workers`): counts for limits, the account of failed logins, reverse listeners.
"""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING, Self

import attrs

from cotun_trio.access.startups import OwnSourceCounts
from cotun_trio.admin.watched import NO_BARS
from cotun_trio.counts import OwnCount
from cotun_trio.server.logins import OwnFailures
from cotun_trio.server.peers import NO_PEERS
from cotun_trio.server.reverse_listeners import NOTHING_ELSEWHERE

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.access.startups import SourceCounts
    from cotun_trio.admin.watched import Bars
    from cotun_trio.counts import Count
    from cotun_trio.server.logins import Failures
    from cotun_trio.server.peers import Peers
    from cotun_trio.server.reverse_listeners import Elsewhere
    from cotun_trio.settings import ServerSettings


@attrs.frozen(kw_only=True)
class SharedState:
    """The state of a server that other processes may share; by default, they do not."""

    failures: Failures
    """The account of failed logins.  Their limit is a setting, so there is no default."""
    bars: Bars = NO_BARS
    """The sources that are barred, for administrators, where this process keeps the account."""
    elsewhere: Elsewhere = NOTHING_ELSEWHERE
    """The reverse listeners of the other processes."""
    peers: Peers = NO_PEERS
    """The other servers of a fleet."""
    flows: Count = attrs.field(factory=OwnCount)
    """The connections that are carried."""
    startups: Count = attrs.field(factory=OwnCount)
    """The connections that have not logged in, except those of the back end's clients."""
    sources: SourceCounts = attrs.field(factory=OwnSourceCounts)
    """The connections of each source that have not logged in."""
    user_sessions: SourceCounts = attrs.field(factory=OwnSourceCounts)
    """The sessions of each user."""
    served: Count = attrs.field(factory=OwnCount)
    """The connections that have been accepted and have ended since."""
    sessions_changed: Callable[[int], None] = lambda _count: None
    """Called with the number of open sessions whenever that has changed."""
    node: str = attrs.field(factory=partial(secrets.token_hex, 16))
    """The server's identity for its clients, see `cotun_trio.protocol.config_reply.ConfigReply`.
    It is not made of the host key, since several servers may have the same."""

    @classmethod
    def alone(cls, settings: ServerSettings) -> Self:
        """Return the state of a server that shares nothing."""
        failures = OwnFailures(settings.max_auth_failures)
        return cls(failures=failures, bars=failures)
