"""The options of ``cotun-trio server`` for a fleet."""

from __future__ import annotations

from typing import Annotated, Literal

import attrs
from cyclopts import Parameter

from cotun_trio.cli.groups import FLEET
from cotun_trio.settings import FleetSettings
from cotun_trio.settings.fleet import NAME


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class FleetOptions:
    """The options, each by its own name."""

    fleet: Annotated[
        str | None,
        Parameter(
            group=FLEET,
            metavar="URL",
            show_default=False,
            help="Be one of several servers that are one service; this Redis or Valkey is their "
            "directory: redis://, rediss://, redis+sentinel:// or redis+cluster://.",
        ),
    ] = None
    fleet_key: Annotated[
        str | None,
        Parameter(
            group=FLEET,
            metavar="PATH",
            show_default=False,
            help="The file with the fleet's secret, the same at all nodes: openssl rand -hex 32.",
        ),
    ] = None
    fleet_address: Annotated[
        str | None,
        Parameter(
            group=FLEET,
            metavar="URL",
            show_default=False,
            help="The URL by which the other nodes reach this one, such as http://10.0.0.5:8080.",
        ),
    ] = None
    fleet_name: Annotated[
        str,
        Parameter(group=FLEET, metavar="NAME", help="The name of the fleet in the directory."),
    ] = NAME
    fleet_password_file: Annotated[
        str | None,
        Parameter(
            group=FLEET,
            metavar="PATH",
            show_default=False,
            help="A file with the directory's password on its first line.",
        ),
    ] = None
    fleet_ingress: Annotated[
        Literal["all", "owner"],
        Parameter(
            group=FLEET,
            help="Have every node listen for a reverse remote, or only the one where its client "
            "is.",
        ),
    ] = "all"
    fleet_partition: Annotated[
        Literal["refuse", "local"],
        Parameter(
            group=FLEET,
            help="While the directory does not answer, refuse a new port of a client's, or take it "
            "here; when it answers again, the node with the earlier claim gives it up.",
        ),
    ] = "refuse"

    def settings(self) -> FleetSettings | None:
        """Return the settings; None without ``--fleet``.  Raises `UsageError`."""
        return FleetSettings.choose(
            self.fleet,
            key=self.fleet_key,
            address=self.fleet_address,
            name=self.fleet_name,
            password_file=self.fleet_password_file,
            ingress=self.fleet_ingress,
            partition=self.fleet_partition,
        )


NO_FLEET = FleetOptions()
