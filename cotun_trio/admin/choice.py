"""The admin interface that the settings ask for, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cotun_trio.admin.watched import Watched
    from cotun_trio.logs import Context
    from cotun_trio.settings import ClientSettings, ServerSettings


class Interface(Protocol):
    """An interface to administrators."""

    async def open(self) -> None:
        """Listen.  Raises `UsageError`."""

    async def run(self) -> None:
        """Answer until cancelled; returns where there is nothing to answer."""

    def close(self) -> None:
        """Listen no more.  Can be called again."""


class NoInterface:
    """None: the settings have no address for one."""

    async def open(self) -> None:
        """See `Interface`."""

    async def run(self) -> None:
        """See `Interface`."""

    def close(self) -> None:
        """See `Interface`."""


def interface_for(
    watched: Watched, settings: ClientSettings | ServerSettings, log: Context
) -> Interface:
    """Return the interface that answers about `watched`."""
    if settings.admin_listen is None and settings.admin_socket is None:
        return NoInterface()
    from cotun_trio.admin.interface import AdminInterface  # off, it costs not even this

    return AdminInterface(
        watched,
        settings.admin_listen,
        settings.admin_token_file,
        log,
        besides=settings.admin_socket,
    )
