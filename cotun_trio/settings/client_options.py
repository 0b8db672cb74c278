"""The options of a client, as a program or the command line gives them.

Each is here once, with its type.  `cotun_trio.settings.ClientSettings.from_options` makes settings
of them, and `open_client`, `cotun_trio.blocking.open_client` and ``cotun-trio client`` all call
that.  A new option takes a line here, a field there, and a parameter of the command with its help.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cotun_trio.settings.timings import Timings


class ClientOptions(TypedDict, total=False):
    """The options, all of which have a default; times are in seconds, files are paths."""

    remotes: Iterable[str]
    """Remotes to forward."""
    auth: tuple[str, str] | None
    """A user and a password."""
    auth_from: str | None
    """A file with both, as ``user:password`` on its first line, where there is no `auth`."""
    fingerprint: str | None
    """The server's; without it any server is believed."""
    proxy: str | None
    """The URL of a proxy to go through."""
    proxy_from_env: bool
    """Whether HTTPS_PROXY and the like name one, where there is no `proxy`."""
    headers: Iterable[tuple[str, str]]
    """Sent with the upgrade, a name and a value each."""
    hostname: str | None
    """The Host header, where it is not the URL's."""
    tls_ca: str | None
    tls_cert: str | None
    tls_key: str | None
    tls_skip_verify: bool
    sni: str | None
    keepalive: float
    """Seconds between pings; 0 for none."""
    max_retry_count: int | None
    max_retry_interval: float
    max_connections: int
    """Forwarded connections at a time; 0: no limit."""
    protocol: Literal["auto", "chisel", "cotun"]
    timings: Timings | None
