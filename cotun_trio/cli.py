"""The command line: from the words that a user types to frozen settings.

Options keep the names, defaults and variables of the Go programs.  Whatever does not parse ends
with a line that says what is wrong, and status 2, before anything is opened.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence  # noqa: TC003  cyclopts reads the annotations
from typing import Annotated, Literal

from cyclopts import App, Parameter

from cotun_trio import __version__, daemon
from cotun_trio.access.fingerprints import fingerprint as fingerprint_of
from cotun_trio.access.host_key_options import choose_host_key, make_key
from cotun_trio.access.key_files import write_key_file
from cotun_trio.access.users import Credentials
from cotun_trio.durations import parse_duration
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape
from cotun_trio.protocol.remote import Remote
from cotun_trio.settings import (
    DEFAULT_KEEPALIVE,
    ClientSettings,
    ServerSettings,
    ServerUrl,
    Timings,
    parse_header,
)

ENVIRONMENT = """
Every duration takes a unit: 300ms, 5s, 2m, 1h30m.  More of them, and their
defaults, can be set in the environment:

    COTUN_DIAL_TIMEOUT    30s  a TCP connection to a server or a target
    COTUN_WS_TIMEOUT      45s  the client's WebSocket handshake
    COTUN_SSH_TIMEOUT     30s  all that comes before an accepted config request
    COTUN_CONFIG_TIMEOUT  10s  from the login to the config request
    COTUN_SSH_WAIT        35s  a local connection waits for the tunnel
    COTUN_PING_TIMEOUT         the answer to a ping; default: the keepalive
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
_KEEPALIVE = f"{DEFAULT_KEEPALIVE:g}s"


@app.command(help_epilogue=ENVIRONMENT)
def server(
    *,
    host: Annotated[
        str, Parameter(env_var="HOST", metavar="ADDRESS", help="Listen on this interface.")
    ] = "0.0.0.0",  # noqa: S104  the Go programs' default
    port: Annotated[
        int,
        Parameter(name=["--port", "-p"], env_var="PORT", help="Listen on this port; 0: any free."),
    ] = 8080,
    keyfile: Annotated[
        str | None,
        Parameter(
            metavar="PATH|CK-KEY",
            show_default=False,
            help="Have this host key: a PEM file (EC, RSA, Ed25519), a file that --keygen wrote, "
            "or a ck- key itself.  Without it, every run has another key, and clients cannot "
            "know the server again. [env var: COTUN_KEY_FILE]",
        ),
    ] = None,
    keygen: Annotated[
        str | None,
        Parameter(
            metavar="PATH",
            show_default=False,
            allow_leading_hyphen=True,  # for the lone one
            help="Do not serve: write a new host key to this file, for --keyfile; -: print it.",
        ),
    ] = None,
    force: Annotated[
        bool, Parameter(show_default=False, help="Let --keygen replace a file that is there.")
    ] = False,
    key: Annotated[
        str | None,
        Parameter(
            metavar="SEED",
            show_default=False,
            help="Have the host key that this text stands for.  Deprecated: whoever guesses the "
            "text has the key.  With --keygen, write that key. [env var: COTUN_KEY]",
        ),
    ] = None,
    auth: Annotated[
        str | None,
        Parameter(
            env_var="AUTH",
            metavar="USER:PASS",
            show_default=False,
            help="Let only this user in.  Without it, everybody comes in.",
        ),
    ] = None,
    reverse: Annotated[
        bool,
        Parameter(show_default=False, help="Let clients have the server listen for them (R:)."),
    ] = False,
    socks5: Annotated[
        bool, Parameter(show_default=False, help="Let clients use the server as a SOCKS5 proxy.")
    ] = False,
    unix: Annotated[
        bool,
        Parameter(
            show_default=False, help="Let clients name Unix sockets of the server's (unix:)."
        ),
    ] = False,
    keepalive: Keepalive = _KEEPALIVE,
    pid: Pid = False,
    verbose: Verbose = False,
) -> int:
    """Accept tunnels: listen for clients, and connect to the targets that they name."""
    if keygen is not None:
        if keyfile:
            raise UsageError("--keygen makes a key and --keyfile has one: give one of them")
        _generate_key(keygen, seed=key, force=force)
        return 0
    if force:
        raise UsageError("--force is for --keygen only")
    settings = ServerSettings(
        host=host,
        port=port,
        host_key=choose_host_key(seed=key, keyfile=keyfile, environment=os.environ, warn=_warn),
        auth=_credentials(auth),
        reverse=reverse,
        socks5=socks5,
        unix=unix,
        keepalive=parse_duration(keepalive),
        timings=Timings.from_environment(os.environ),
    )
    return daemon.run_server(settings, verbose=verbose, pid=pid)


CLIENT_NOTES = (
    """
A remote says where to listen here, and what the server connects to:

    [local-host:][local-port:][remote-host:]remote-port

    3000                        port 3000 of the server, here as port 3000
    example.com:3000            port 3000 of example.com, seen from the server
    3000:google.com:80          the same for port 80, here as port 3000
    127.0.0.1:5000:db:5432      listening on one interface only
    [::1]:3000:[2001:db8::1]:80
    5353:1.1.1.1:53/udp         datagrams
    socks                       a SOCKS5 proxy on 127.0.0.1:1080
    user:pass@1081:socks        one that asks for a password
    unix:/tmp/db:db:5432        listening on a Unix socket; also as a target
    stdio:host:22               standard input and output, for ssh ProxyCommand
    R:2222:localhost:22         the other way round: the server listens
    R:socks                     the same for SOCKS5

Without a local host, every interface is listened on (0.0.0.0), for SOCKS
127.0.0.1 only.  Port 0 is any free one.

A SIGHUP cuts the wait for the next attempt to connect short.  The exit status
is 0 after SIGINT or SIGTERM, 1 when the client had to give up, and 2 when the
command line makes no sense.
"""
    + ENVIRONMENT
)


@app.command(
    help_epilogue=CLIENT_NOTES, usage="Usage: cotun-trio client [OPTIONS] SERVER REMOTE..."
)
def client(
    server: Annotated[
        str,
        Parameter(metavar="SERVER", help="The server's URL, such as http://example.com:8080/path."),
    ],
    remotes: Annotated[
        tuple[str, ...],
        Parameter(name="REMOTE", metavar="REMOTE", help="What to forward; see below."),
    ],
    /,
    *,
    fingerprint: Annotated[
        str | None,
        Parameter(
            show_default=False,
            help="The 44 characters that the server prints at its start.  Strongly recommended: "
            "a server with any other host key is refused.  The MD5 form of old servers (16 hex "
            "pairs with colons) is still taken.",
        ),
    ] = None,
    auth: Annotated[
        str | None,
        Parameter(
            env_var="AUTH", metavar="USER:PASS", show_default=False, help="Log in with these."
        ),
    ] = None,
    keepalive: Keepalive = _KEEPALIVE,
    max_retry_count: Annotated[
        int | None,
        Parameter(
            show_default=False,
            metavar="COUNT",
            help="Give up after this many retries in a row.  Without it, never, but for what "
            "cannot heal: a wrong fingerprint, password or remote.",
        ),
    ] = None,
    max_retry_interval: Annotated[
        str, Parameter(metavar="DURATION", help="The longest wait before a retry.")
    ] = "5m",
    header: Annotated[
        list[str] | None,
        Parameter(
            show_default=False,
            metavar="'NAME: VALUE'",
            help="Send this HTTP header with the upgrade.  Can be repeated.",
        ),
    ] = None,
    hostname: Annotated[
        str | None,
        Parameter(show_default=False, help="Send this Host header instead of the URL's."),
    ] = None,
    protocol: Annotated[
        Literal["auto", "chisel", "cotun"],
        Parameter(help="What the server speaks; auto finds out."),
    ] = "auto",
    pid: Pid = False,
    verbose: Verbose = False,
) -> int:
    """Open a tunnel: listen here, and forward what connects to the server's side."""
    settings = ClientSettings(
        server=ServerUrl.parse(server),
        remotes=tuple(map(Remote.parse, remotes)),
        fingerprint=fingerprint,
        auth=_credentials(auth),
        keepalive=parse_duration(keepalive),
        max_retry_count=max_retry_count,
        max_retry_interval=parse_duration(max_retry_interval),
        headers=tuple(map(parse_header, header or ())),
        hostname=hostname,
        protocol=protocol,
        timings=Timings.from_environment(os.environ),
    )
    return daemon.run_client(settings, verbose=verbose, pid=pid)


def _generate_key(path: str, *, seed: str | None, force: bool) -> None:
    """Do what ``--keygen`` asks for.  Raises `UsageError`."""
    if not path or (path[0] == "-" and path != "-"):
        raise UsageError("--keygen needs the path of a file to write, or - to print the key")
    text, key = make_key(seed)
    if path == "-":
        try:
            print(text, end="", flush=True)
        except OSError as error:
            raise UsageError(f"cannot print the key: {error.strerror}") from None
    else:
        write_key_file(path, text, force=force)
        shown = fingerprint_of(key.asbytes())
        print(f"cotun-trio: wrote {escape(path)}, fingerprint {shown}", file=sys.stderr)


def _warn(line: str) -> None:
    print(f"cotun-trio: warning: {line}", file=sys.stderr)


def _credentials(text: str | None) -> Credentials | None:
    return Credentials.parse(text) if text else None


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line, and exit."""
    for name in ("HOST", "PORT", "AUTH"):
        if not os.environ.get(name, "unset"):  # empty is unset, as to the Go programs
            del os.environ[name]
    try:
        status = app(argv)
    except UsageError as error:
        print(f"cotun-trio: {error}", file=sys.stderr)
        status = 2
    sys.exit(status)
