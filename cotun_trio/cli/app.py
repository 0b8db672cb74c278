"""What the commands share: the program itself, options that several of them have, their notes."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import App, Parameter

from cotun_trio import __version__
from cotun_trio.access.credentials import Credentials
from cotun_trio.settings import DEFAULT_KEEPALIVE

ENVIRONMENT = """
Every duration takes a unit: 300ms, 5s, 2m, 1h30m.  More of them, and their
defaults, can be set in the environment:

    COTUN_DIAL_TIMEOUT    30s  a TCP connection to a server or a target
    COTUN_WS_TIMEOUT      45s  the client's WebSocket handshake
    COTUN_SSH_TIMEOUT     30s  all that comes before an accepted config request
    COTUN_CONFIG_TIMEOUT  10s  from the login to the config request
    COTUN_SSH_WAIT        35s  a local connection waits for the tunnel
    COTUN_PING_TIMEOUT         the answer to a ping; default: the keepalive
    COTUN_BACKEND_TIMEOUT 60s  the back end's answer, and each piece of it
    COTUN_SHUTDOWN_GRACE  5s   what is open goes on after SIGTERM or SIGINT
    COTUN_UDP_DEADLINE    15s  a UDP source is forgotten
    COTUN_UDP_MAX_SIZE         bytes of a datagram (65507)
    COTUN_REKEY_BYTES          bytes carried by one set of SSH keys (16 GiB)
"""

app = App(
    name="cotun-trio",
    help="A fast TCP/UDP tunnel over HTTP, secured by SSH.  Speaks with chisel and cotun.",
    version=f"cotun-trio {__version__}",
    default_parameter=Parameter(negative=""),
    help_format="plaintext",
    result_action="return_value",
)

Keepalive = Annotated[
    str,
    Parameter(
        metavar="DURATION",
        help="Ping the peer this often, so that proxies do not drop an idle connection; 0s: never.",
    ),
]
Verbose = Annotated[
    bool,
    Parameter(
        name=["--verbose", "-v"], show_default=False, help="Log every single connection, too."
    ),
]
Pid = Annotated[
    bool,
    Parameter(show_default=False, help="Keep the process's number in ./cotun.pid while it runs."),
]
KEEPALIVE = f"{DEFAULT_KEEPALIVE:g}s"


def warn(line: str) -> None:
    """Say what the user should read, and go on."""
    print(f"cotun-trio: warning: {line}", file=sys.stderr)


def credentials(text: str | None) -> Credentials | None:
    """Return what ``--auth`` says."""
    return None if text is None else Credentials.parse(text)
