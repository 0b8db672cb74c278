"""``cotun-trio client``."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from cyclopts import Parameter

from cotun_trio import daemon
from cotun_trio.cli.app import (
    ENVIRONMENT,
    KEEPALIVE,
    Keepalive,
    Pid,
    Verbose,
    app,
    credentials,
    warn,
)
from cotun_trio.durations import parse_duration
from cotun_trio.protocol.proxy_url import ProxyUrl, proxy_from_environment
from cotun_trio.protocol.remote import Remote
from cotun_trio.settings import ClientSettings, ClientTls, ServerUrl, Timings, parse_header

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

A SIGHUP cuts the wait for the next attempt to connect short, and a SIGUSR2
logs what is going on.  The exit status is 0 after SIGINT or SIGTERM, 1 when
the client had to give up, and 2 when the command line makes no sense.
"""
    + ENVIRONMENT
)


@app.command(
    help_epilogue=CLIENT_NOTES, usage="Usage: cotun-trio client [OPTIONS] SERVER REMOTE..."
)
def client(
    server: Annotated[
        str,
        Parameter(metavar="SERVER", help="The server's URL, such as https://example.com/path."),
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
    keepalive: Keepalive = KEEPALIVE,
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
    proxy: Annotated[
        str | None,
        Parameter(
            metavar="URL",
            show_default=False,
            help="Reach the server through this proxy: http://, https:// or socks5h://, then "
            "[user:password@]host:port.  The proxy looks names up.",
        ),
    ] = None,
    proxy_from_env: Annotated[
        bool,
        Parameter(
            show_default=False,
            help="Without --proxy, take it from HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, but for "
            "what NO_PROXY names.",
        ),
    ] = False,
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
    tls_ca: Annotated[
        str | None,
        Parameter(
            metavar="PATH",
            show_default=False,
            help="Trust these authorities to issue the server's certificate, in place of those "
            "that the system trusts: a PEM file, or a directory of them.",
        ),
    ] = None,
    tls_skip_verify: Annotated[
        bool,
        Parameter(
            show_default=False,
            help="Take any TLS certificate.  The server is only as certain then as its "
            "--fingerprint makes it.",
        ),
    ] = False,
    tls_cert: Annotated[
        str | None,
        Parameter(
            metavar="PATH",
            show_default=False,
            help="Show the server this certificate, a PEM file.  Needs --tls-key.",
        ),
    ] = None,
    tls_key: Annotated[
        str | None,
        Parameter(
            metavar="PATH", show_default=False, help="The key of that certificate, a PEM file."
        ),
    ] = None,
    sni: Annotated[
        str | None,
        Parameter(
            metavar="NAME",
            show_default=False,
            help="Ask for this server by TLS, and expect its name in the certificate, whatever "
            "name the URL has.",
        ),
    ] = None,
    protocol: Annotated[
        Literal["auto", "chisel", "cotun"],
        Parameter(help="What the server speaks; auto finds out."),
    ] = "auto",
    pid: Pid = False,
    verbose: Verbose = False,
) -> int:
    """Open a tunnel: listen here, and forward what connects to the server's side."""
    tls = ClientTls(ca=tls_ca, skip_verify=tls_skip_verify, cert=tls_cert, key=tls_key, sni=sni)
    if tls_skip_verify:
        warn("--tls-skip-verify: anybody on the way can be the server, but for its --fingerprint")
    url = ServerUrl.parse(server)
    way_out = None if proxy is None else ProxyUrl.parse(proxy)
    if way_out is None and proxy_from_env:
        way_out = proxy_from_environment(os.environ, url.host, tls=url.tls)
    settings = ClientSettings(
        server=url,
        proxy=way_out,
        tls=tls,
        remotes=tuple(map(Remote.parse, remotes)),
        fingerprint=fingerprint,
        auth=credentials(auth),
        keepalive=parse_duration(keepalive),
        max_retry_count=max_retry_count,
        max_retry_interval=parse_duration(max_retry_interval),
        headers=tuple(map(parse_header, header or ())),
        hostname=hostname,
        protocol=protocol,
        timings=Timings.from_environment(os.environ),
    )
    return daemon.run_client(settings, verbose=verbose, pid=pid)
