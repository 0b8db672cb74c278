"""``cotun-trio server``."""

from __future__ import annotations

import os
from typing import Annotated

import attrs
from cyclopts import Parameter

from cotun_trio.access.credentials import Credentials, read_credentials
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
    process_settings,
)
from cotun_trio.cli.config_file import warnings_about
from cotun_trio.cli.fleet_options import NO_FLEET, FleetOptions
from cotun_trio.cli.groups import CONNECTION, HOST_KEY, HTTP, PROCESS, RIGHTS, USERS
from cotun_trio.cli.keygen import generate_key
from cotun_trio.cli.plan import Plan
from cotun_trio.cli.server_limits import LIMITS_BY_DEFAULT, ServerLimits
from cotun_trio.cli.server_tls import TlsCa, TlsCert, TlsDomain, TlsKey, choose_tls, tls_warnings
from cotun_trio.cli.visitor_options import AcceptProxy, ReverseAllow, about_visitors
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape
from cotun_trio.settings import (
    AdminAddress,
    ServerSettings,
    ServerUrl,
    Timings,
    parse_listen,
    parse_network,
)
from cotun_trio.units import parse_duration

NOTES = (
    """
The users file is a JSON object; a regular expression (RE2, as in Go) that
matches an address anywhere allows it, so anchor it with ^ and $:

    {
      "alice:secret": ["^10\\\\.0\\\\.0\\\\.[0-9]+:22$", "^R:0\\\\.0\\\\.0\\\\.0:8080$"],
      "bob:$2b$12$...": [""]
    }

The addresses are host:port for targets, R:interface:port for reverse remotes,
socks, and unix:/path.  An empty pattern allows everything.  socks:REGEX limits
what a user of socks can reach through it.  A password may be a hash made by
cotun-trio hash-password; cotun-trio check-auth says what a file allows.

A SIGHUP has the file read again, and the TLS certificate; a SIGUSR2 logs the
present figures.  SIGINT and SIGTERM let open connections end, for a while; a
second one does not.  With --workers, signals are for the first process, which
does the same in all of them; a SIGUSR1 has it start a new worker for each of
them, one after the other, and let the old one end.

The exit status is 0 after SIGINT or SIGTERM, 1 where the server cannot listen,
and 2 where the command line or the configuration file makes no sense.

For --tls-domain, there are in the environment:

    COTUN_LE_CACHE      where keys and certificates are kept; -: nowhere
                        (cotun in the user's cache directory)
    COTUN_LE_EMAIL      whom the authority tells of trouble
    COTUN_LE_DIRECTORY  another authority's ACME directory, a URL
    COTUN_LE_CA         a PEM file: the authority behind that one's TLS
"""
    + CONFIG_NOTES.format(
        example="""[server]
    port = 443
    keyfile = "/etc/cotun-trio/host.key"
    authfile = "/etc/cotun-trio/users.json"
    tls-domain = ["tunnel.example.com"]
    reverse = true"""
    )
    + ENVIRONMENT
)


@app.command(help_epilogue=NOTES)
def server(
    *,
    host: Annotated[
        str,
        Parameter(
            group=CONNECTION,
            env_var="HOST",
            metavar="ADDRESS",
            help="Listen on this interface; 0.0.0.0 or [::]: all, with IPv4 and with IPv6.",
        ),
    ] = "0.0.0.0",  # noqa: S104  the Go programs' default
    port: Annotated[
        int,
        Parameter(
            group=CONNECTION,
            name=["--port", "-p"],
            env_var="PORT",
            help="Listen on this port; 0: any free.",
        ),
    ] = 8080,
    keyfile: Annotated[
        str | None,
        Parameter(
            group=HOST_KEY,
            metavar="PATH|CK-KEY",
            show_default=False,
            help="Have this host key: a PEM file (EC, RSA, Ed25519), a file that --keygen wrote, "
            "a ck- key itself, or the base64 of any of them.  Without it, every run has another "
            "key, and clients cannot know the server again. [env var: COTUN_KEY_FILE]",
        ),
    ] = None,
    keygen: Annotated[
        str | None,
        Parameter(
            group=HOST_KEY,
            metavar="PATH",
            show_default=False,
            allow_leading_hyphen=True,  # for the lone one
            help="Do not serve: write a new host key to this file, for --keyfile; -: print it.",
        ),
    ] = None,
    force: Annotated[
        bool,
        Parameter(
            group=HOST_KEY, show_default=False, help="Let --keygen replace a file that is there."
        ),
    ] = False,
    key: Annotated[
        str | None,
        Parameter(
            group=HOST_KEY,
            metavar="SEED",
            show_default=False,
            help="Have the host key that this text stands for.  Deprecated: anybody who guesses "
            "the text has the key.  With --keygen, write that key. [env var: COTUN_KEY]",
        ),
    ] = None,
    auth: Annotated[
        str | None,
        Parameter(
            group=USERS,
            env_var="AUTH",
            metavar="USER:PASS",
            show_default=False,
            help="Let this user in, with all rights.  Without it, --auth-from and --authfile, "
            "everybody comes in.",
        ),
    ] = None,
    auth_from: Annotated[
        str | None,
        Parameter(
            group=USERS,
            metavar="PATH",
            show_default=False,
            help="Without --auth, let the user in that the first line of this file has, in the "
            "same form.",
        ),
    ] = None,
    authfile: Annotated[
        str | None,
        Parameter(
            group=USERS,
            metavar="PATH",
            show_default=False,
            help="Let the users in that this JSON file has; see below.  It is read again when it "
            "changes, and connections that a user has no right to any more end at once.",
        ),
    ] = None,
    check_addresses: Annotated[
        bool,
        Parameter(
            group=USERS,
            show_default=False,
            help="Where a client names a host, compare each of its addresses with the user's "
            "list, too, before it is dialled.",
        ),
    ] = False,
    limits: ServerLimits = LIMITS_BY_DEFAULT,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_domain: TlsDomain = None,
    tls_ca: TlsCa = None,
    backend: Annotated[
        str | None,
        Parameter(
            group=HTTP,
            name=["--backend", "--proxy"],
            metavar="URL",
            show_default=False,
            help="Pass requests that are for no tunnel on to this HTTP server: visitors see "
            "only its pages.",
        ),
    ] = None,
    backend_upgrade: Annotated[
        list[str] | None,
        Parameter(
            group=HTTP,
            metavar="NAME",
            show_default=False,
            help="Let clients switch to this protocol with the back end, too (Upgrade:); only "
            "websocket is passed on without it.  Never h2c: nothing in it could be looked at.  "
            "Can be repeated.",
        ),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        Parameter(
            group=HTTP,
            metavar="CIDR",
            show_default=False,
            help="Believe proxies with these addresses about where a request has come from "
            "(X-Forwarded-For).  Can be repeated.",
        ),
    ] = None,
    accept_proxy: AcceptProxy = None,
    health_listen: Annotated[
        str | None,
        Parameter(
            group=HTTP,
            metavar="[ADDRESS:]PORT",
            show_default=False,
            help="Answer /health and /version here, too: with a back end, they are its own.",
        ),
    ] = None,
    path: Annotated[
        str,
        Parameter(
            group=HTTP,
            metavar="PATH",
            help="Be a tunnel only for requests with this path; /: for any path.",
        ),
    ] = "/",
    reverse: Annotated[
        bool,
        Parameter(
            group=RIGHTS,
            show_default=False,
            help="Let clients have the server listen for them (R:).",
        ),
    ] = False,
    reverse_allow: ReverseAllow = None,
    socks5: Annotated[
        bool,
        Parameter(
            group=RIGHTS, show_default=False, help="Let clients use the server as a SOCKS5 proxy."
        ),
    ] = False,
    unix: Annotated[
        bool,
        Parameter(
            group=RIGHTS,
            show_default=False,
            help="Let clients name Unix sockets of the server's (unix:).",
        ),
    ] = False,
    reverse_host: Annotated[
        str | None,
        Parameter(
            group=RIGHTS,
            metavar="ADDRESS",
            show_default=False,
            help="Listen on this interface where a reverse remote names none, and not on all.",
        ),
    ] = None,
    fleet: FleetOptions = NO_FLEET,
    workers: Annotated[
        int,
        Parameter(
            group=PROCESS,
            metavar="COUNT",
            help="Be so many processes on one port, to use as many processors; each takes some "
            "50 MB, and another one watches them.",
        ),
    ] = 1,
    keepalive: Keepalive = KEEPALIVE,
    config: Config = None,
    admin_listen: AdminListen = None,
    admin_token_file: AdminTokenFile = None,
    metrics_per_user: Annotated[
        bool,
        Parameter(
            group=PROCESS,
            show_default=False,
            help="Have sessions and bytes of each user in /metrics, for 100 users by name and the "
            "rest together.",
        ),
    ] = False,
    pid: Pid = None,
    log_format: LogFormat = "text",
    verbose: Verbose = False,
    trace: Trace = False,
    quiet: Quiet = False,
) -> Plan | int:
    """Accept tunnels: listen for clients, and connect to the targets that they name."""
    from cotun_trio.access.host_key_options import choose_host_key  # with paramiko behind it

    if keygen is not None:
        if keyfile:
            raise UsageError("--keygen makes a key and --keyfile has one: give one of them")
        generate_key(keygen, seed=key, force=force)
        return 0
    if force:
        raise UsageError("--force is for --keygen only")
    warnings = warnings_about(config)
    settings = ServerSettings(
        host=host,
        port=port,
        host_key=choose_host_key(
            seed=key, keyfile=keyfile, environment=os.environ, warn=warnings.append
        ),
        tls=choose_tls(tls_domain or [], workers, cert=tls_cert, key=tls_key, ca=tls_ca),
        backend=None if backend is None else ServerUrl.parse(backend),
        backend_upgrades=tuple(backend_upgrade or ()),
        trusted_proxies=tuple(map(parse_network, trusted_proxy or ())),
        health_listen=None if health_listen is None else parse_listen(health_listen),
        **about_visitors(accept_proxy, reverse_allow),
        path=path,
        auth=_user(auth, auth_from),
        authfile=authfile,
        check_addresses=check_addresses,
        **attrs.asdict(limits),
        reverse=reverse,
        reverse_host=reverse_host,
        fleet=fleet.settings(),
        socks5=socks5,
        unix=unix,
        keepalive=parse_duration(keepalive),
        timings=Timings.from_environment(os.environ),
        admin_listen=None if admin_listen is None else AdminAddress.parse(admin_listen),
        admin_token_file=admin_token_file,
        admin_socket=admin_socket(),
        metrics_per_user=_per_user(metrics_per_user, admin_listen),
    )
    return Plan(
        settings,
        process_settings(
            verbose=verbose, trace=trace, quiet=quiet, form=log_format, pid=pid, workers=workers
        ),
        warnings=(*warnings, *tls_warnings(tls_domain, port)),
        from_file=config is not None,
    )


def _per_user(asked: bool, admin_listen: str | None) -> bool:
    """Return whether figures are there for each user.  Raises `UsageError`."""
    if asked and admin_listen is None:
        raise UsageError("--metrics-per-user is for --admin-listen only")
    return asked


def _user(auth: str | None, path: str | None) -> Credentials | None:
    """Return the user of ``--auth`` or ``--auth-from``.  Raises `UsageError`."""
    if auth is not None or path is None:
        return credentials(auth)
    user = read_credentials(path)
    if user is None:  # or everybody would come in
        raise UsageError(f"the password file {escape(path)} has nothing on its first line")
    return user
