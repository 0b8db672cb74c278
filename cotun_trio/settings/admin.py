"""The settings of the admin interface."""

from __future__ import annotations

import attrs

from cotun_trio.errors import UsageError
from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import RemoteError, clean_host, join_host_port, parse_port
from cotun_trio.settings.values import wrong

LOOPBACK = "127.0.0.1"


@attrs.frozen
class AdminAddress:
    """Where the admin interface listens: at `path` of the file system, or at `host` and `port`."""

    path: str = ""
    host: str = ""
    port: int = 0
    """0 for any free one."""

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else join_host_port(self.host, self.port)

    @classmethod
    def parse(cls, text: str) -> AdminAddress:
        """Read ``unix:/path`` or ``[host:]port``, where no host is the loopback interface.

        Raises `UsageError`.
        """
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path.startswith("/") or "\0" in path:
                raise _wrong(text, "a path begins with a slash")
            return cls(path=path)
        host, _, port = text.rpartition(":")
        try:
            return cls(host=clean_host(host) or LOOPBACK, port=parse_port(port))
        except RemoteError as error:
            raise _wrong(text, str(error)) from None


def to_admin_address(option: str, value: object) -> AdminAddress | None:
    """Return the address that a program gives as such, or as a text.  Raises `UsageError`."""
    if value is None or isinstance(value, AdminAddress):
        return value
    if not isinstance(value, str):
        raise wrong(option, "a text like 'unix:/run/cotun-trio/admin.sock'", value)
    return AdminAddress.parse(value)


def check_admin_socket(_settings: object, _attribute: object, path: str | None) -> None:
    """Raise `UsageError` unless this can be the path of a socket, or is none."""
    if path is not None and (not path.startswith("/") or "\0" in path):
        raise UsageError(
            f"COTUN_ADMIN_SOCKET: '{escape(path)}': a path begins with a slash: write it like "
            "/run/cotun-trio/admin.sock"
        )


def _wrong(text: str, reason: str) -> UsageError:
    return UsageError(
        f"--admin-listen: '{escape(text)}': {reason}: write it like "
        "unix:/run/cotun-trio/admin.sock or 127.0.0.1:9110"
    )
