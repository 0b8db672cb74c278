"""The settings of TLS, at either end: files, and checks."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import attrs

from cotun_trio.errors import UsageError
from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import RemoteError, canonical_host, clean_host
from cotun_trio.protocol.environment import find_variable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


def _pair(cert: str | None, key: str | None) -> None:
    """Raise `UsageError` where there is one of them without the other."""
    if (cert is None) != (key is None):
        given, missing = ("cert", "key") if key is None else ("key", "cert")
        raise UsageError(f"--tls-{given} needs --tls-{missing}, and the other way round")


@attrs.frozen(kw_only=True)
class ServerTls:
    """TLS on the server: paths of PEM files."""

    cert: str
    key: str
    ca: str | None = None
    """The authorities that issue clients' certificates, a file or a directory; without it, clients
    need none."""

    @classmethod
    def choose(cls, *, cert: str | None, key: str | None, ca: str | None) -> ServerTls | None:
        """Return the settings that the options give; None without any.

        Raises `UsageError` where one is missing.
        """
        _pair(cert, key)
        if cert is not None and key is not None:
            return cls(cert=cert, key=key, ca=ca)
        if ca is not None:
            raise UsageError("--tls-ca needs --tls-cert and --tls-key")
        return None


@attrs.frozen(kw_only=True)
class ServerAcme:
    """TLS on the server, with certificates by ACME."""

    domains: tuple[str, ...]
    """Names in lower case, a certificate for each."""
    directory: str = LETS_ENCRYPT
    """The authority's URL (COTUN_LE_DIRECTORY)."""
    ca: str | None = None
    """The issuers of the authority's own certificate, a PEM file (COTUN_LE_CA)."""
    email: str | None = None
    """Told to the authority (COTUN_LE_EMAIL)."""
    cache: str | None = None
    """The directory where keys and certificates are kept; None to keep none (COTUN_LE_CACHE)."""
    clients: str | None = None
    """The authorities that issue clients' certificates; see `ServerTls.ca`."""

    @classmethod
    def choose(
        cls, domains: Sequence[str], environment: Mapping[str, str], *, clients: str | None
    ) -> ServerAcme:
        """Return the settings from the options and the environment.  Raises `UsageError`."""
        _, directory = find_variable(environment, "LE_DIRECTORY")
        _, ca = find_variable(environment, "LE_CA")
        _, email = find_variable(environment, "LE_EMAIL")
        return cls(
            domains=tuple(dict.fromkeys(map(_full_name, domains))),
            directory=directory or LETS_ENCRYPT,
            ca=ca,
            email=email,
            cache=_cache_directory(environment),
            clients=clients,
        )


def _full_name(domain: str) -> str:
    """Return `domain` in lower case.  Raises `UsageError` unless it is a name with a dot in it."""
    try:
        name = canonical_host(clean_host(domain))
    except RemoteError as error:
        raise UsageError(f"--tls-domain: {error}") from None
    if "." not in name or not re.search("[a-z]$", name):
        raise UsageError(f"--tls-domain: '{escape(domain)}' is not a full name")
    return name


def _cache_directory(environment: Mapping[str, str]) -> str | None:
    """Return the directory for certificates that the environment names, or the usual one."""
    cache = find_variable(environment, "LE_CACHE")[1] or os.path.join(  # noqa: PTH118  text, as given
        environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"),  # noqa: PTH111
        "cotun",
    )
    return None if cache == "-" else cache


@attrs.frozen(kw_only=True)
class ClientTls:
    """TLS on the client: paths of PEM files, and checks."""

    ca: str | None = None
    """The authorities that issue the server's certificate, in place of those of the system."""
    cert: str | None = None
    key: str | None = None
    skip_verify: bool = False
    """Whether any certificate is accepted."""
    sni: str | None = attrs.field(default=None)
    """The name that the server is asked for, and that its certificate has to have."""

    @sni.validator
    def _check_sni(self, _attribute: object, sni: str | None) -> None:
        try:
            clean_host(sni or "")
        except RemoteError as error:
            raise UsageError(f"--sni: {error}") from None

    def check(self) -> None:
        """Raise `UsageError` where a server with TLS could not be connected to with these."""
        _pair(self.cert, self.key)
