"""Options of the way to a server, which several commands have."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from cotun_trio.cli.groups import CONNECTION, HOST_KEY, HTTP, TLS, USERS

Fingerprint = Annotated[
    str | None,
    Parameter(
        group=HOST_KEY,
        show_default=False,
        help="The 44 characters that the server prints at its start.  Strongly recommended: "
        "a server with any other host key is refused.  The MD5 form of old servers (16 hex "
        "pairs with colons) is still taken.",
    ),
]
Auth = Annotated[
    str | None,
    Parameter(
        group=USERS,
        env_var="AUTH",
        metavar="USER:PASS",
        show_default=False,
        help="Log in with these.",
    ),
]
AuthFrom = Annotated[
    str | None,
    Parameter(
        group=USERS,
        metavar="PATH",
        show_default=False,
        help="Without --auth, log in with the first line of this file, which has the same "
        "form; if that is empty, there is no login.",
    ),
]
Proxy = Annotated[
    str | None,
    Parameter(
        group=HTTP,
        metavar="URL",
        show_default=False,
        help="Reach the server through this proxy: http://, https:// or socks5h://, then "
        "[user:password@]host:port.  The proxy looks names up.  An HTTP proxy's login "
        "is Digest or Basic.",
    ),
]
ProxyFromEnv = Annotated[
    bool,
    Parameter(
        group=HTTP,
        show_default=False,
        help="Without --proxy, take it from HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, except "
        "for hosts in NO_PROXY.",
    ),
]
Header = Annotated[
    list[str] | None,
    Parameter(
        group=HTTP,
        show_default=False,
        metavar="'NAME: VALUE'",
        help="Send this HTTP header with the upgrade.  Can be repeated.",
    ),
]
Hostname = Annotated[
    str | None,
    Parameter(group=HTTP, show_default=False, help="Send this Host header instead of the URL's."),
]
TlsCa = Annotated[
    str | None,
    Parameter(
        group=TLS,
        metavar="PATH",
        show_default=False,
        help="Trust these authorities to issue the server's certificate, in place of those "
        "that the system trusts: a PEM file, or a directory of them.",
    ),
]
TlsSkipVerify = Annotated[
    bool,
    Parameter(
        group=TLS,
        show_default=False,
        help="Take any TLS certificate.  The server is only as certain then as its "
        "--fingerprint makes it.",
    ),
]
TlsCert = Annotated[
    str | None,
    Parameter(
        group=TLS,
        metavar="PATH",
        show_default=False,
        help="Show the server this certificate, a PEM file.  Needs --tls-key.",
    ),
]
TlsKey = Annotated[
    str | None,
    Parameter(
        group=TLS,
        metavar="PATH",
        show_default=False,
        help="The key of that certificate, a PEM file.",
    ),
]
Sni = Annotated[
    str | None,
    Parameter(
        group=TLS,
        metavar="NAME",
        show_default=False,
        help="Ask for this server by TLS, and expect its name in the certificate, instead of "
        "the URL's.",
    ),
]
Protocol = Annotated[
    Literal["auto", "chisel", "cotun"],
    Parameter(group=CONNECTION, help="The dialect of the server; auto finds out."),
]

NOT_VERIFIED = "--tls-skip-verify: TLS is not verified; only --fingerprint identifies the server"
