"""``cotun-trio client``."""

from __future__ import annotations

import os
from typing import Annotated

from cyclopts import Parameter

from cotun_trio.cli.app import (
    CONFIG_NOTES,
    ENVIRONMENT,
    KEEPALIVE,
    AdminListen,
    AdminTokenFile,
    Config,
    Keepalive,
    LogFormat,
    Pid,
    Quiet,
    Trace,
    Verbose,
    admin_socket,
    app,
    credentials,
    known_hosts_path,
    process_settings,
)
from cotun_trio.cli.config_file import warnings_about
from cotun_trio.cli.groups import CONNECTION, HOST_KEY, LIMITS
from cotun_trio.cli.plan import Plan
from cotun_trio.cli.route_options import (
    NOT_VERIFIED,
    Auth,
    AuthFrom,
    Fingerprint,
    Header,
    Hostname,
    Protocol,
    Proxy,
    ProxyFromEnv,
    Sni,
    TlsCa,
    TlsCert,
    TlsKey,
    TlsSkipVerify,
)
from cotun_trio.errors import UsageError
from cotun_trio.settings import (
    MAX_SESSION_CONNECTIONS,
    ClientSettings,
    Timings,
    parse_header,
)
from cotun_trio.units import parse_duration

CLIENT_NOTES = (
    """
A remote says where to listen here, and what the server connects to:

    [local-host:][local-port:][remote-host:]remote-port

    3000                        port 3000 of the server, here as port 3000
    example.com:3000            port 3000 of that host, seen from the server
    3000:google.com:80          the same for port 80, here as port 3000
    127.0.0.1:5000:db:5432      listening on one interface only
    [::1]:3000:[2001:db8::1]:80
    5353:1.1.1.1:53/udp         datagrams
    socks                       a proxy on 127.0.0.1:1080: SOCKS and CONNECT
    user:pass@1081:socks        one that asks for a password
    unix:/tmp/db:db:5432        listening on a Unix socket; also as a target
    stdio:host:22               stdin and stdout, for ssh ProxyCommand
    R:2222:localhost:22         the other way round: the server listens
    R:socks                     the same for a proxy
    3000-3010:db:4000-4010      ranges of ports: 3000 leads to db:4000, 3001
                                to db:4001, and so on; also with R: and /udp
    R:80:web:8080,proxy=v2      a PROXY header tells the target who visits
    R:80:web:8080,allow=10.0.0.0/8,allow=::1
                                only these visitors are let in

Without a local host, every interface is listened on (0.0.0.0), for SOCKS
127.0.0.1 only.  Port 0 is any free one.  A range is listened on as a whole, or
not at all.

A SIGHUP cuts the wait for the next attempt to connect short, and has the
remotes in the configuration file read again: only connections of remotes that
have changed are cut.  A SIGUSR2 logs the present figures.  SIGINT and SIGTERM
let open connections end, for a while; a second one does not.

The exit status is

    0  after SIGINT or SIGTERM, or at the end of a stdio remote
    1  where a remote cannot be listened on, or a stdio remote was cut
    2  where the command line or the configuration file makes no sense
    3  where the server is another than --fingerprint or --known-hosts says
    4  where the server takes none of the credentials
    5  where the server does not allow one of the remotes
    6  after --max-retry-count

The causes of 3, 4 and 5 do not heal by trying again; with --max-retry-count the
client tries again all the same.
"""
    + CONFIG_NOTES.format(
        example="""[client]
    server = ["https://a.example.com", "https://b.example.com"]
    fingerprint = "QpUjJ1..."
    auth = "alice:secret"
    max-retry-interval = "1m"
    remote = ["5432:db.internal:5432", "R:2222:localhost:22"]"""
    )
    + ENVIRONMENT
)


@app.command(
    help_epilogue=CLIENT_NOTES, usage="Usage: cotun-trio client [OPTIONS] [SERVER [REMOTE...]]"
)
def client(
    first: Annotated[
        str | None,
        Parameter(
            name="SERVER",
            show_default=False,
            help="The server's URL, such as https://example.com/path.",
        ),
    ] = None,
    /,
    *remotes: Annotated[
        str, Parameter(name="REMOTE", show_default=False, help="What to forward; see below.")
    ],
    server: Annotated[
        list[str] | None,
        Parameter(
            group=CONNECTION,
            show_default=False,
            metavar="URL",
            help="Try this server, too, where those before it fail.  Can be repeated.",
        ),
    ] = None,
    remote: Annotated[
        list[str] | None,
        Parameter(
            group=CONNECTION,
            show_default=False,
            metavar="REMOTE",
            help="Forward this, too.  Can be repeated.",
        ),
    ] = None,
    fingerprint: Fingerprint = None,
    known_hosts: Annotated[
        str | None,
        Parameter(
            group=HOST_KEY,
            metavar="FILE",
            show_default=False,
            help="Without --fingerprint, remember the server's key in this file at the first "
            "meeting, and refuse another one later; alone, in cotun-trio/known_hosts in the "
            "user's state directory.  See cotun-trio forget.",
        ),
    ] = None,
    auth: Auth = None,
    auth_from: AuthFrom = None,
    connections: Annotated[
        int,
        Parameter(
            group=CONNECTION,
            metavar="COUNT",
            help="Have sessions with so many servers at once, up to 16: those of several URLs, the "
            "addresses of a name, or the servers behind a balancer.  Where one is lost, the others "
            "carry on.",
        ),
    ] = 1,
    keepalive: Keepalive = KEEPALIVE,
    max_retry_count: Annotated[
        int | None,
        Parameter(
            group=CONNECTION,
            show_default=False,
            metavar="COUNT",
            help="Give up after this many retries in a row, -1: never, and try again after any "
            "failure.  Without it, give up only after failures that cannot heal: a wrong "
            "fingerprint, password or remote.",
        ),
    ] = None,
    min_retry_interval: Annotated[
        str,
        Parameter(
            group=CONNECTION,
            metavar="DURATION",
            help="The shortest wait before a retry, less up to 1s by chance; the first is up to "
            "three times as long.",
        ),
    ] = "1s",
    max_retry_interval: Annotated[
        str,
        Parameter(group=CONNECTION, metavar="DURATION", help="The longest wait before a retry."),
    ] = "5m",
    proxy: Proxy = None,
    proxy_from_env: ProxyFromEnv = False,
    header: Header = None,
    hostname: Hostname = None,
    tls_ca: TlsCa = None,
    tls_skip_verify: TlsSkipVerify = False,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    sni: Sni = None,
    max_connections: Annotated[
        int,
        Parameter(
            group=LIMITS,
            metavar="COUNT",
            help="Carry no more connections than this at a time; 0: no limit.",
        ),
    ] = MAX_SESSION_CONNECTIONS,
    protocol: Protocol = "auto",
    config: Config = None,
    admin_listen: AdminListen = None,
    admin_token_file: AdminTokenFile = None,
    pid: Pid = None,
    log_format: LogFormat = "text",
    verbose: Verbose = False,
    trace: Trace = False,
    quiet: Quiet = False,
) -> Plan:
    """Open a tunnel: listen here, and forward connections to the server's side."""
    servers = [*([] if first is None else [first]), *(server or ())]
    all_remotes = [*remotes, *(remote or ())]
    for name, given in (("SERVER", servers), ("REMOTE", all_remotes)):
        if not given:
            raise UsageError(f"there is no {name}: write it like client https://example.com 3000")
    login = credentials(auth)
    settings = ClientSettings.from_options(
        servers,
        remotes=all_remotes,
        fingerprint=fingerprint,
        known_hosts=known_hosts_path(known_hosts),
        auth=None if login is None else (login.user, login.password),
        auth_from=auth_from,
        proxy=proxy,
        proxy_from_env=proxy_from_env,
        headers=map(parse_header, header or ()),
        hostname=hostname,
        tls_ca=tls_ca,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_skip_verify=tls_skip_verify,
        sni=sni,
        connections=connections,
        keepalive=parse_duration(keepalive),
        max_retry_count=max_retry_count,
        min_retry_interval=parse_duration(min_retry_interval),
        max_retry_interval=parse_duration(max_retry_interval),
        max_connections=max_connections,
        protocol=protocol,
        timings=Timings.from_environment(os.environ),
        admin_listen=admin_listen,
        admin_token_file=admin_token_file,
        admin_socket=admin_socket(),
    )
    quiet = quiet or any(each.stdio for each in settings.remotes)  # it is on ssh's terminal
    unverified = tls_skip_verify and any(route.server.tls for route in settings.routes)
    return Plan(
        settings,
        process_settings(verbose=verbose, trace=trace, quiet=quiet, form=log_format, pid=pid),
        warnings=(*warnings_about(config), *((NOT_VERIFIED,) if unverified else ())),
        from_file=config is not None,
    )
