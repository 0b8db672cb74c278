"""The names of the steps of an examination."""

from __future__ import annotations

import enum


class StepName(enum.StrEnum):
    """The name of a step, in the order in which they come."""

    NAME = "name"
    """The server's name, or the proxy's, is looked up."""
    ADDRESS = "address"
    """TCP to one of the addresses; there is a step for each."""
    CONNECTION = "connection"
    """TCP as the client does it, to whichever address is the first to answer."""
    PROXY = "proxy"
    """The same through a proxy, in place of it."""
    TLS = "tls"
    UPGRADE = "upgrade"
    """HTTP, up to the WebSocket."""
    SSH = "ssh"
    """Version lines and the key exchange."""
    HOST_KEY = "host key"
    LOGIN = "login"
    CONFIG = "config"
    """The config request, without remotes."""
    PING = "ping"
    IDLE = "idle"
    UPLOAD = "upload"
