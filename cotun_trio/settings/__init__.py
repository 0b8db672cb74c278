"""The settings of a server and a client: frozen, validated once, at the edge.

Text from the command line, the environment or a file becomes one of these, or a `UsageError` that
says what is wrong.  Behind the edge nothing is checked again.  Times are in seconds.

* `server`: the settings of a server, and its limits.
* `client`: the settings of a client, and the routes to its servers.
* `process`: the settings of a process, in either role.
* `server_url`: the URL of a server.
* `timings`: timeouts, and other figures from the environment.
* `tls`: the files and checks of TLS, at either end.
"""

from cotun_trio.settings.client import ClientSettings, Route, parse_header
from cotun_trio.settings.process import ProcessSettings
from cotun_trio.settings.server import (
    MAX_AUTH_FAILURES,
    MAX_CONNECTIONS,
    MAX_SESSION_CONNECTIONS,
    MAX_STARTUPS,
    MAX_STARTUPS_PER_SOURCE,
    MAX_USER_SESSIONS,
    ServerSettings,
    parse_listen,
    parse_network,
)
from cotun_trio.settings.server_url import ServerUrl
from cotun_trio.settings.timings import DEFAULT_KEEPALIVE, Timings, parse_bytes
from cotun_trio.settings.tls import ClientTls, ServerAcme, ServerTls

__all__ = [
    "DEFAULT_KEEPALIVE",
    "MAX_AUTH_FAILURES",
    "MAX_CONNECTIONS",
    "MAX_SESSION_CONNECTIONS",
    "MAX_STARTUPS",
    "MAX_STARTUPS_PER_SOURCE",
    "MAX_USER_SESSIONS",
    "ClientSettings",
    "ClientTls",
    "ProcessSettings",
    "Route",
    "ServerAcme",
    "ServerSettings",
    "ServerTls",
    "ServerUrl",
    "Timings",
    "parse_bytes",
    "parse_header",
    "parse_listen",
    "parse_network",
]
