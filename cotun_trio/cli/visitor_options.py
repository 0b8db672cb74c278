"""The options of ``cotun-trio server`` about visitors: who they are, and who may come."""

from __future__ import annotations

from typing import Annotated, TypeAlias, TypedDict

from cyclopts import Parameter

from cotun_trio.cli.groups import HTTP, RIGHTS
from cotun_trio.protocol.networks import Network
from cotun_trio.settings import parse_network

AcceptProxy: TypeAlias = Annotated[
    list[str] | None,
    Parameter(
        group=HTTP,
        metavar="CIDR",
        show_default=False,
        help="Have connections from balancers with these addresses begin with a PROXY header "
        "(version 1 or 2), and believe it about where they come from; close those without one.  "
        "Can be repeated.",
    ),
]
ReverseAllow: TypeAlias = Annotated[
    list[str] | None,
    Parameter(
        group=RIGHTS,
        metavar="CIDR",
        show_default=False,
        help="Let only visitors with these addresses connect to reverse remotes.  Can be repeated.",
    ),
]


class Visitors(TypedDict):
    """The settings that these options are."""

    accept_proxy: tuple[Network, ...]
    reverse_allow: tuple[Network, ...]


def about_visitors(accept_proxy: list[str] | None, reverse_allow: list[str] | None) -> Visitors:
    """Return the settings of both options.  Raises `UsageError`."""
    return {
        "accept_proxy": tuple(parse_network(n, "--accept-proxy") for n in accept_proxy or ()),
        "reverse_allow": tuple(parse_network(n, "--reverse-allow") for n in reverse_allow or ()),
    }
