"""``cotun-trio doctor``."""

from __future__ import annotations

import os
from typing import Annotated

from cyclopts import Parameter

from cotun_trio.cli.app import Config, app, credentials, known_hosts_path, warn
from cotun_trio.cli.config_file import warnings_about
from cotun_trio.cli.groups import CONNECTION, HOST_KEY
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
from cotun_trio.settings import ClientSettings, Timings, parse_header
from cotun_trio.units import parse_duration

NOTES = """
It does what a client with the same options does, and shows each step: the name,
TCP to each of its addresses, the proxy, TLS, the upgrade of HTTP, SSH, the host
key, the login, a config request without remotes.  Then it pings, waits for a
while, and pings again; and it sends up to 3 MiB.  Nothing is forwarded, and no
file is written.

Of several servers, each is examined, one after the other.  With --config, the
servers and the options are those of the table [client]; what is not about the
way to a server is left aside.

A failed login counts at the server as one of a client does.

With --json, each step is an object on a line of its own, as it ends:

    server      its URL, where there are several
    step        name, address, connection, proxy, tls, upgrade, ssh,
                host key, login, config, ping, idle or upload
    outcome     ok, warning, failed or skipped
    seconds     how long it took
    facts       an object; what ends in _seconds, _bytes and _rate is a
                number (_rate: bytes per second), and error is what a
                client would say
    meaning     what it means, where it is not simply good, or ""
    advice      what would help, or ""

The exit status is

    0  where no step failed; there may be warnings
    1  where one did; of several servers, the first that failed counts
    2  where the command line makes no sense
    3  where the server is another than --fingerprint or --known-hosts says
    4  where the server takes none of the credentials
"""


@app.command(help_epilogue=NOTES, usage="Usage: cotun-trio doctor [OPTIONS] [SERVER...]")
def doctor(
    *servers: Annotated[
        str,
        Parameter(
            name="SERVER",
            show_default=False,
            help="The server's URL, such as https://example.com/path.",
        ),
    ],
    server: Annotated[
        list[str] | None,
        Parameter(
            group=CONNECTION,
            show_default=False,
            metavar="URL",
            help="Examine the way to this server, too.  Can be repeated.",
        ),
    ] = None,
    json: Annotated[
        bool,
        Parameter(
            group=CONNECTION,
            show_default=False,
            help="Print each step as a JSON object; see below.",
        ),
    ] = False,
    idle: Annotated[
        str,
        Parameter(
            group=CONNECTION,
            metavar="DURATION",
            help="Send nothing for so long, and see whether the connection is still there; 0s: do "
            "not try.  Most proxies wait for 60s or more before they drop one.",
        ),
    ] = "5s",
    fingerprint: Fingerprint = None,
    known_hosts: Annotated[
        str | None,
        Parameter(
            group=HOST_KEY,
            metavar="FILE",
            show_default=False,
            help="Without --fingerprint, compare the server's key with this file of a client, "
            "which stays as it is; alone, with the one that a client has by default.",
        ),
    ] = None,
    auth: Auth = None,
    auth_from: AuthFrom = None,
    proxy: Proxy = None,
    proxy_from_env: ProxyFromEnv = False,
    header: Header = None,
    hostname: Hostname = None,
    tls_ca: TlsCa = None,
    tls_skip_verify: TlsSkipVerify = False,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    sni: Sni = None,
    protocol: Protocol = "auto",
    config: Config = None,
) -> int:
    """Say what lies between here and a server, step by step, and what to do about it."""
    urls = [*servers, *(server or ())]
    if not urls:
        raise UsageError("there is no SERVER: write it like doctor https://example.com")
    login = credentials(auth)
    settings = ClientSettings.from_options(
        urls,
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
        protocol=protocol,
        timings=Timings.from_environment(os.environ),
    )
    pause = parse_duration(idle)
    unverified = tls_skip_verify and any(route.server.tls for route in settings.routes)
    for warning in (
        *warnings_about(config),
        *settings.warnings,
        *((NOT_VERIFIED,) if unverified else ()),
    ):
        warn(warning)
    from cotun_trio.cli import doctor_report  # with the client behind it

    return doctor_report.run(settings, idle=pause, json_lines=json)
