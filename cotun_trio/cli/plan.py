"""The plan of a command line: settings, and the program to run with them.

The programs are imported here, when they are run: paramiko and Trio take most of the time to start,
and ``--help``, a wrong option and the small commands do not wait for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from cotun_trio.settings import ClientSettings, ProcessSettings, ServerSettings

if TYPE_CHECKING:
    from collections.abc import Callable


@attrs.frozen
class Plan:
    """The plan of ``server`` or ``client``, before anything is done."""

    settings: ServerSettings | ClientSettings
    process: ProcessSettings
    warnings: tuple[str, ...] = ()
    """Warnings for the user, a line each."""
    hints: tuple[str, ...] = ()
    """Advice that matters less, a line each."""
    from_file: bool = False
    """Whether a part of it is from a configuration file."""

    def check(self) -> tuple[str, ...]:
        """Look at the files that the settings name, and return warnings about them, a line each.

        Raises `CotunError`.
        """
        from cotun_trio.client.client import Client
        from cotun_trio.server.server import Server

        if isinstance(self.settings, ServerSettings):
            return Server(self.settings).files.warnings
        return Client(self.settings).warnings

    def run(self, again: Callable[[], Plan]) -> int:
        """Do it, and return the exit status.

        `again` is for a plan of the same command line when its file may have changed; it raises
        `UsageError`.
        """
        from cotun_trio import daemon

        if isinstance(self.settings, ServerSettings):
            return daemon.run_server(self.settings, self.process)

        def read_again() -> ClientSettings:
            settings = again().settings
            assert isinstance(settings, ClientSettings)
            return settings

        reread = read_again if self.from_file else None
        return daemon.run_client(self.settings, self.process, reread=reread)
