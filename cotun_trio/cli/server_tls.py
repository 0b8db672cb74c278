"""The TLS options of ``cotun-trio server``."""

from __future__ import annotations

import os
from typing import Annotated

from cyclopts import Parameter

from cotun_trio.cli.groups import TLS
from cotun_trio.errors import UsageError
from cotun_trio.settings import ServerAcme, ServerTls

TlsCert = Annotated[
    str | None,
    Parameter(
        group=TLS,
        metavar="PATH",
        show_default=False,
        help="Speak TLS, with the certificate in this PEM file, and those between it and its "
        "root.  It is read again when it changes.  Needs --tls-key.",
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
TlsDomain = Annotated[
    list[str] | None,
    Parameter(
        group=TLS,
        metavar="NAME",
        show_default=False,
        help="Speak TLS, with a certificate for this name from Let's Encrypt, which has to "
        "reach this server on port 443 or 80.  Can be repeated.  See COTUN_LE_... below.",
    ),
]
TlsCa = Annotated[
    str | None,
    Parameter(
        group=TLS,
        metavar="PATH",
        show_default=False,
        help="Only let clients in that have a certificate of these authorities: a PEM file, or "
        "a directory of them.",
    ),
]
_NOT_443 = "the authority will look for this server on port 443, and it listens on {}"


def tls_warnings(domains: list[str] | None, port: int) -> list[str]:
    """Return advice about names for certificates and the port of a server."""
    if not domains or port == 443:
        return []
    return [_NOT_443.format(port)]


def choose_tls(
    domains: list[str], workers: int, *, cert: str | None, key: str | None, ca: str | None
) -> ServerTls | ServerAcme | None:
    """Return the TLS of these options.  Raises `UsageError` where they do not go together."""
    if not domains:
        return ServerTls.choose(cert=cert, key=key, ca=ca)
    if workers > 1:
        raise UsageError(
            "--tls-domain answers an authority's challenges in one process: leave out --workers, "
            "or give --tls-cert"
        )
    if cert or key:
        raise UsageError(
            "--tls-domain gets a certificate, and --tls-cert has one: give one of them"
        )
    return ServerAcme.choose(domains, os.environ, clients=ca)
