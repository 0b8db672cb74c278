"""Timeouts, and other figures from the environment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

from cotun_trio.errors import UsageError
from cotun_trio.escape import escape
from cotun_trio.protocol.environment import find_variable
from cotun_trio.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_KEEPALIVE = 25.0
"""Below the 30 or 60 seconds after which proxies and NATs drop an idle connection."""


def parse_bytes(text: str) -> int:
    """Return the positive whole number that `text` is.  Raises `UsageError`."""
    return _parse_positive(text, "a number of bytes")


def parse_count(text: str) -> int:
    """Return the positive whole number that `text` is.  Raises `UsageError`."""
    return _parse_positive(text, "a number of 1 or more")


def _parse_positive(text: str, name: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text) or not int(text):
        raise UsageError(f"{escape(text)!r} is not {name}")
    return int(text)


@attrs.frozen(kw_only=True)
class Timings:
    """How long things may take, in seconds.  Each has a variable of the environment."""

    ssh_wait: float = 35.0
    """A new local connection waits for the tunnel to come back (COTUN_SSH_WAIT)."""
    ssh_timeout: float = 30.0
    """Everything up to the accepted config request, on either side (COTUN_SSH_TIMEOUT)."""
    ws_timeout: float = 45.0
    """The client's WebSocket handshake (COTUN_WS_TIMEOUT)."""
    config_timeout: float = 10.0
    """From the login to the config request (COTUN_CONFIG_TIMEOUT)."""
    ping_timeout: float | None = None
    """The answer to a keepalive ping; as long as the keepalive if None (COTUN_PING_TIMEOUT)."""
    dial_timeout: float = 30.0
    """A TCP connection to a server or to a target (COTUN_DIAL_TIMEOUT)."""
    backend_timeout: float = 60.0
    """The back end's answer to a request, and each further piece of it (COTUN_BACKEND_TIMEOUT)."""
    shutdown_grace: float = 5.0
    """Open connections go on after the signal to end (COTUN_SHUTDOWN_GRACE)."""
    udp_deadline: float | None = None
    """A UDP source that sends and gets nothing is forgotten (COTUN_UDP_DEADLINE); if None, after
    120 s where it has been answered before, and after 15 s where it has not."""
    udp_max_size: int = attrs.field(default=65_507, metadata={"parse": parse_bytes})
    """Bytes of the largest datagram, beyond which it is cut (COTUN_UDP_MAX_SIZE)."""
    udp_max_conns: int | None = attrs.field(default=None, metadata={"parse": parse_count})
    """UDP sources at a time that are carried to the target of one remote (COTUN_UDP_MAX_CONNS); one
    more takes the place of the source that has been silent for longest.  None: no such limit."""
    rekey_bytes: int = attrs.field(default=16 * 2**30, metadata={"parse": parse_bytes})
    """Bytes carried by one set of SSH keys (COTUN_REKEY_BYTES)."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Timings:
        """Read the ``COTUN_…`` variables, or ``CHISEL_…``; unset and empty ones mean the default.

        Raises `UsageError` that names the variable.
        """
        values: dict[str, float] = {}
        for field in attrs.fields(cls):
            name, text = find_variable(environment, field.name.upper())
            if text is None:
                continue
            try:
                values[field.name] = field.metadata.get("parse", parse_duration)(text)
            except UsageError as error:
                raise UsageError(f"{name}: {error}") from None
        return cls(**values)  # type: ignore[arg-type]
