"""The options of a client, as a program or the command line gives them.

Each is here once, with its type; a string as on the command line will do as well.
`cotun_trio.settings.ClientSettings.from_options` makes settings of them, and `open_client`,
`cotun_trio.blocking.open_client` and ``cotun-trio client`` all call that.  A new option takes a
line here, a field and a converter there, and a parameter of the command with its help.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from os import PathLike

    from cotun_trio.settings.admin import AdminAddress
    from cotun_trio.settings.timings import Timings


class ClientOptions(TypedDict, total=False):
    """The options, all of which have a default; times are in seconds, files are paths."""

    remotes: str | Iterable[str]
    """Remotes to forward, or a single one; with ranges of ports, a text is several."""
    auth: str | tuple[str, str] | None
    """``user:password``, or both as a tuple."""
    auth_from: str | PathLike[str] | None
    """A file with both, as ``user:password`` on its first line, where there is no `auth`."""
    fingerprint: str | None
    """The server's; without it any server is believed, except by `known_hosts`."""
    known_hosts: str | PathLike[str] | None
    """A file that remembers the key of each server, and refuses another one later."""
    proxy: str | None
    """The URL of a proxy to go through."""
    proxy_from_env: bool
    """Whether HTTPS_PROXY and the like name one, where there is no `proxy`."""
    headers: str | Mapping[str, str] | Iterable[str | tuple[str, str]]
    """Sent with the upgrade: a mapping, or a name and a value each, or ``Name: value``."""
    hostname: str | None
    """The Host header, where it is not the URL's."""
    tls_ca: str | PathLike[str] | None
    tls_cert: str | PathLike[str] | None
    tls_key: str | PathLike[str] | None
    tls_skip_verify: bool
    sni: str | None
    connections: int | str
    """Sessions at a time, each with another server."""
    keepalive: float | str
    """Seconds between pings, or a duration such as ``25s``; 0 for none."""
    max_retry_count: int | str | None
    min_retry_interval: float | str
    max_retry_interval: float | str
    max_connections: int | str
    """Forwarded connections at a time; 0: no limit."""
    protocol: Literal["auto", "chisel", "cotun"]
    admin_listen: str | AdminAddress | None
    """Where administrators are answered; see `ServerSettings.admin_listen`."""
    admin_socket: str | PathLike[str] | None
    """See `ServerSettings.admin_socket`."""
    admin_token_file: str | PathLike[str] | None
    """The file with their token, for TCP."""
    fast_loop: bool
    """Whether sockets are served in front of Trio's own wait; see `ServerSettings.fast_loop`."""
    timings: Timings | None
