"""The fleet of a server, for administrators."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from cotun_trio.admin.operations import Failure

if TYPE_CHECKING:
    from cotun_trio.admin.operations import Call
    from cotun_trio.snapshot import FleetFigures


async def fleet(call: Call) -> FleetFigures:
    """Return the fleet, as this node knows it: its nodes, and the places of this one."""
    found = await call.watched.fleet()
    if found is None:
        raise Failure(HTTPStatus.NOT_FOUND, "this server is in no fleet: it needs --fleet")
    return found
