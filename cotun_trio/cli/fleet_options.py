"""The options of ``cotun-trio server`` for a fleet."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from cotun_trio.cli.groups import FLEET

Fleet = Annotated[
    str | None,
    Parameter(
        group=FLEET,
        metavar="URL",
        show_default=False,
        help="Be one of several servers that are one service; this Redis or Valkey is their "
        "directory: redis://, rediss://, redis+sentinel:// or redis+cluster://.",
    ),
]
FleetKey = Annotated[
    str | None,
    Parameter(
        group=FLEET,
        metavar="PATH",
        show_default=False,
        help="The file with the fleet's secret, the same at all nodes: openssl rand -hex 32.",
    ),
]
FleetAddress = Annotated[
    str | None,
    Parameter(
        group=FLEET,
        metavar="URL",
        show_default=False,
        help="The URL by which the other nodes reach this one, such as http://10.0.0.5:8080.",
    ),
]
FleetName = Annotated[
    str,
    Parameter(group=FLEET, metavar="NAME", help="The name of the fleet in the directory."),
]
FleetPasswordFile = Annotated[
    str | None,
    Parameter(
        group=FLEET,
        metavar="PATH",
        show_default=False,
        help="A file with the directory's password on its first line.",
    ),
]
FleetIngress = Annotated[
    Literal["all", "owner"],
    Parameter(
        group=FLEET,
        help="Have every node listen for a reverse remote, or only the one where its client is.",
    ),
]
FleetPartition = Annotated[
    Literal["refuse", "local"],
    Parameter(
        group=FLEET,
        help="While the directory does not answer, refuse a new port of a client's, or take it "
        "here; when it answers again, the node with the earlier claim gives it up.",
    ),
]
