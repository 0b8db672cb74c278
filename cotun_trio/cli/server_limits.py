"""The limits of ``cotun-trio server``, as options."""

from __future__ import annotations

from typing import Annotated

import attrs
from cyclopts import Parameter

from cotun_trio.cli.groups import LIMITS, USERS
from cotun_trio.settings import (
    MAX_AUTH_FAILURES,
    MAX_CONNECTIONS,
    MAX_SESSION_CONNECTIONS,
    MAX_STARTUPS,
    MAX_STARTUPS_PER_SOURCE,
    MAX_USER_SESSIONS,
)


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class ServerLimits:
    """The limits, each by its own name."""

    max_auth_failures: Annotated[
        int,
        Parameter(
            group=USERS,
            metavar="COUNT",
            help="Bar an address for a while after so many failed logins in a minute; 0: never.",
        ),
    ] = MAX_AUTH_FAILURES
    max_startups: Annotated[
        int,
        Parameter(
            group=LIMITS,
            metavar="COUNT",
            help="Have no more connections than this that have not logged in; from half of it on, "
            "refuse some.  0: no limit.",
        ),
    ] = MAX_STARTUPS
    max_startups_per_source: Annotated[
        int,
        Parameter(
            group=LIMITS,
            metavar="COUNT",
            help="The same for a single address, without random refusals; connections that it "
            "keeps open to the back end count, too.",
        ),
    ] = MAX_STARTUPS_PER_SOURCE
    max_user_sessions: Annotated[
        int,
        Parameter(
            group=LIMITS,
            metavar="COUNT",
            help="Let no user have more sessions than this at a time; 0: no limit.  Without "
            "users, there is none.",
        ),
    ] = MAX_USER_SESSIONS
    max_connections: Annotated[
        int,
        Parameter(
            group=LIMITS,
            metavar="COUNT",
            help="Carry no more connections than this at a time; 0: no limit.",
        ),
    ] = MAX_CONNECTIONS
    max_session_connections: Annotated[
        int, Parameter(group=LIMITS, metavar="COUNT", help="The same for a single client.")
    ] = MAX_SESSION_CONNECTIONS


LIMITS_BY_DEFAULT = ServerLimits()
