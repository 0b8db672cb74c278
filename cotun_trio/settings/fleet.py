"""The settings of a fleet: several servers that are one tunnel service."""

from __future__ import annotations

import re
from typing import Literal

import attrs

from cotun_trio.errors import UsageError
from cotun_trio.escape import escape
from cotun_trio.settings.server_url import ServerUrl

NAME = "cotun"


def _to_url(url: str | ServerUrl) -> ServerUrl:
    return url if isinstance(url, ServerUrl) else ServerUrl.parse(url)


@attrs.frozen(kw_only=True)
class FleetSettings:
    """The place of a server in a fleet.  Raises `UsageError` for what makes no sense."""

    directory: str = attrs.field(repr=False)
    """The URL of Redis or Valkey, the fleet's directory.  Not shown: it may have a password."""
    key: str
    """The path of the file with the fleet's key, the same at all nodes."""
    address: ServerUrl = attrs.field(converter=_to_url)
    """The URL by which other nodes reach this server."""
    name: str = attrs.field(default=NAME)
    """Of the fleet: several can have one directory."""
    password_file: str | None = None
    """The path of a file with the directory's password on its first line."""
    ingress: Literal["all", "owner"] = "all"
    """Where a reverse remote is listened for: at all nodes, or where its client is."""
    partition: Literal["refuse", "local"] = "refuse"
    """For new exclusive places while the directory does not answer: they are refused, or taken
    here, until an epoch decides."""

    @name.validator
    def _check_name(self, _attribute: object, name: str) -> None:
        if not re.fullmatch("[A-Za-z0-9._-]{1,64}", name):
            raise UsageError(f"--fleet-name '{escape(name)}': letters, digits, dot, _ and - only")

    @classmethod
    def choose(
        cls,
        directory: str | None,
        *,
        key: str | None,
        address: str | None,
        name: str,
        password_file: str | None,
        ingress: Literal["all", "owner"],
        partition: Literal["refuse", "local"],
    ) -> FleetSettings | None:
        """Return the settings that the options give; None without ``--fleet``."""
        if directory is None:
            given = {"key": key, "address": address, "password-file": password_file}
            for option, value in given.items():
                if value is not None:
                    raise UsageError(f"--fleet-{option} is for --fleet only")
            return None
        if key is None or address is None:
            missing = "key" if key is None else "address"
            raise UsageError(f"--fleet needs --fleet-{missing}")
        return cls(
            directory=directory,
            key=key,
            address=address,
            name=name,
            password_file=password_file,
            ingress=ingress,
            partition=partition,
        )
