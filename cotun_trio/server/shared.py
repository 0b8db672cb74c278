"""What a server has in common with others that serve the same port (`cotun_trio.workers`): limits,
the account of failed logins, reverse listeners.  By default it shares nothing with anybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from cotun_trio.access.startups import OwnSourceCounts
from cotun_trio.counts import OwnCount

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.access.startups import SourceCounts
    from cotun_trio.counts import Count
    from cotun_trio.server.logins import Failures
    from cotun_trio.server.reverse_listeners import Elsewhere


@attrs.frozen(kw_only=True)
class Common:
    """What a server has in common with others."""

    forwards: Count = attrs.field(factory=OwnCount)
    """The connections that are carried."""
    startups: Count = attrs.field(factory=OwnCount)
    """The connections that have not logged in, but for the back end's clients."""
    sources: SourceCounts = attrs.field(factory=OwnSourceCounts)
    """The connections of each source that have not logged in."""
    user_sessions: SourceCounts = attrs.field(factory=OwnSourceCounts)
    """The sessions of each user."""
    served: Count = attrs.field(factory=OwnCount)
    """The connections that have been accepted and have ended since."""
    failures: Failures | None = None
    """The account of failed logins, in place of the server's own."""
    elsewhere: Elsewhere | None = None
    """The reverse listeners of the others."""
    sessions_changed: Callable[[int], None] = lambda _count: None
    """Called with the number of open sessions whenever that has changed."""
