"""A fast TCP/UDP tunnel over HTTP, secured by SSH, built on Trio; wire-compatible with chisel.

`open_client` and `open_server` are where to begin; `cotun_trio.blocking` is for programs without
Trio, `cotun_trio.testing` for tests without a network.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cotun_trio._version import __version__
    from cotun_trio.api.client import TunnelClient, open_client
    from cotun_trio.api.events import Connected, ForwardFailed, Lost
    from cotun_trio.api.forwards import Forward, TunnelListener
    from cotun_trio.api.server import TunnelServer, open_server
    from cotun_trio.errors import ConnectionLost, CotunError, Refused, UsageError
    from cotun_trio.settings import ClientSettings, ServerSettings

__all__ = [
    "ClientSettings",
    "Connected",
    "ConnectionLost",
    "CotunError",
    "Forward",
    "ForwardFailed",
    "Lost",
    "Refused",
    "ServerSettings",
    "TunnelClient",
    "TunnelListener",
    "TunnelServer",
    "UsageError",
    "__version__",
    "open_client",
    "open_server",
]

_HOMES = {
    "__version__": "_version",
    "ClientSettings": "settings",
    "Connected": "api.events",
    "ConnectionLost": "errors",
    "CotunError": "errors",
    "Forward": "api.forwards",
    "ForwardFailed": "api.events",
    "Lost": "api.events",
    "Refused": "errors",
    "ServerSettings": "settings",
    "TunnelClient": "api.client",
    "TunnelListener": "api.forwards",
    "TunnelServer": "api.server",
    "UsageError": "errors",
    "open_client": "api.client",
    "open_server": "api.server",
}


def __getattr__(name: str) -> object:
    # Imported when asked for, so that the command line starts at once.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
