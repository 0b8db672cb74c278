"""The files of a server: its users and its certificate.  Its host key comes with the settings.

They are read once before it listens, so that a mistake in them is told at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.access.fingerprints import fingerprint
from cotun_trio.access.host_keys import generate_host_key
from cotun_trio.server import open_doors
from cotun_trio.server.accounts import Accounts
from cotun_trio.server.acme_certificates import AcmeCertificates
from cotun_trio.server.certificates import Certificates
from cotun_trio.settings import ServerTls

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import trio

    from cotun_trio.access.host_keys import HostKey
    from cotun_trio.logs import Context
    from cotun_trio.settings import ServerSettings


class ServerFiles:
    """The content of the files.  Raises `CotunError` where a file cannot be used."""

    def __init__(self, settings: ServerSettings, log: Context) -> None:
        key = settings.host_key
        self.host_key: HostKey = generate_host_key() if key is None else key
        """The one of the settings, or one made for this run."""
        self.accounts = Accounts(settings.auth, settings.authfile, log)
        self.certificates: Certificates | AcmeCertificates | None = None
        """For TLS; without any, none is spoken."""
        if isinstance(settings.tls, ServerTls):
            self.certificates = Certificates(settings.tls, log)
        elif settings.tls is not None:
            self.certificates = AcmeCertificates(settings.tls, log)
        self._settings = settings
        self._log = log

    @property
    def fingerprint(self) -> str:
        """The host key's: SHA-256, in base64."""
        return fingerprint(self.host_key.asbytes())

    def announce(self, open_on: Sequence[str] = ()) -> None:
        """Log the fingerprint, how many users there are, and warnings about their settings.

        `open_on` are the addresses where nothing but users keeps strangers away.
        """
        self._log.info("Fingerprint %s", self.fingerprint)
        if (warning := open_doors.warning_about(self._settings, open_on)) is not None:
            self._log.warning("%s", warning)
        self.accounts.announce()
        if self.certificates is not None:
            self.certificates.announce()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the files that are not users: a line each."""
        return () if self.certificates is None else self.certificates.warnings

    async def watch(self, nursery: trio.Nursery, users_changed: Callable[[], None]) -> None:
        """Begin to notice changes, in tasks of `nursery`.  Raises `CotunError` where it cannot."""

        async def watch_accounts(*, task_status: trio.TaskStatus[None]) -> None:
            await self.accounts.watch(users_changed, task_status=task_status)

        await nursery.start(watch_accounts)
        if isinstance(self.certificates, Certificates):
            await nursery.start(self.certificates.watch)
        elif self.certificates is not None:
            nursery.start_soon(self.certificates.run)

    async def read_again(self, users_changed: Callable[[], None]) -> None:
        """Read them again, now.  Files that cannot be used are logged, and change nothing."""
        await self.accounts.reload(users_changed)
        if isinstance(self.certificates, Certificates):
            await self.certificates.reload()
