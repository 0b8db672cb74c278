"""Certificates for tests: an authority, and what it issues, as files."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from pathlib import Path

PAST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
FUTURE = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)


class Authority:
    """An authority that nobody trusts but who has its file."""

    def __init__(self, directory: Path, organization: str | None = None) -> None:
        self._use(trustme.CA(organization_name=organization), directory)

    def _use(self, ca: trustme.CA, directory: Path) -> None:
        self._ca = ca
        self._directory = directory
        directory.mkdir(exist_ok=True)
        self.path = str(directory / "ca.pem")
        self._ca.cert_pem.write_to_path(self.path)

    def issue(
        self, *names: str, file: str = "cert", expired: bool = False, future: bool = False
    ) -> tuple[str, str]:
        """Issue a certificate for `names`; return the paths of it and of its key."""
        until = PAST if expired else FUTURE + dt.timedelta(days=30) if future else None
        since = PAST - dt.timedelta(days=30) if expired else FUTURE if future else None
        leaf = self._ca.issue_cert(*names, not_after=until, not_before=since)
        cert, key = self._directory / f"{file}.pem", self._directory / f"{file}.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(str(key))
        return str(cert), str(key)

    def intermediate(self, directory: Path) -> Authority:
        """Return an authority that this one has certified, with its own certificate as its file."""
        made = Authority.__new__(Authority)
        made._use(self._ca.create_child_ca(), directory)
        return made
