"""``cotun-trio forget``: a server out of the known hosts."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from cotun_trio.access.known_hosts import KnownHosts
from cotun_trio.cli.app import app, known_hosts_path
from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import join_host_port
from cotun_trio.settings import ServerUrl

NOTES = """
It is for a server that has a new key, and you know why.  The next client with
--known-hosts remembers whatever key the server has then.

The exit status is 0 where the server was known, and 1 where it was not.
"""


@app.command(help_epilogue=NOTES, usage="Usage: cotun-trio forget [OPTIONS] SERVER")
def forget(
    server: Annotated[
        str, Parameter(name="SERVER", help="The server's URL, or host:port, as the client has it.")
    ],
    /,
    *,
    known_hosts: Annotated[
        str,
        Parameter(
            metavar="FILE",
            show_default=False,
            help="Its file of known hosts; by default cotun-trio/known_hosts in the user's state "
            "directory.",
        ),
    ] = "true",
) -> int:
    """Forget the key of a server that a client with --known-hosts has met."""
    path = known_hosts_path(known_hosts) or known_hosts
    url = ServerUrl.parse(server)
    name = join_host_port(url.host, url.port)
    if KnownHosts(path).forget(name):
        print(f"{escape(path)}: forgot {escape(name)}", flush=True)
        return 0
    print(f"cotun-trio: {escape(path)} does not know {escape(name)}", file=sys.stderr)
    return 1
