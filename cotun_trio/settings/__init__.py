"""The settings of a server and a client: frozen, and validated once, at the edge.

Text from the command line, the environment or a file becomes one of these, or a `UsageError` that
names the mistake.  Behind the edge nothing is checked again.  Times are in seconds.

* `server`, `client`: the settings of each.  `server_url`: the URL of a server.
* `client_options`: the options of a client, from a program or the command line.  `values`: their
  values, where a program gives them as strings.
* `tls`: TLS, at either end.  `timings`: how long things may take, from the environment.
* `process`: how the process runs.  `admin`: where its administrators are answered.
* `fleet`: the place of a server in a fleet.
"""

from cotun_trio.settings.admin import AdminAddress
from cotun_trio.settings.client import ClientSettings, Route, parse_header
from cotun_trio.settings.client_options import ClientOptions
from cotun_trio.settings.fleet import FleetSettings
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
    "AdminAddress",
    "ClientOptions",
    "ClientSettings",
    "ClientTls",
    "FleetSettings",
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
