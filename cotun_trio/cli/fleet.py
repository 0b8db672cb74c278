"""``cotun-trio fleet``: commands about a fleet."""

from __future__ import annotations

import json
from typing import Any

from cyclopts import App

from cotun_trio.cli.app import app
from cotun_trio.cli.status import DEFAULT, Admin, AsJson, TokenFile, admin_client
from cotun_trio.escape import escape
from cotun_trio.units import format_duration

NOTES = """
It is as the asked node knows it, from its memory.

The exit status is 0 where the directory answers and this node's lease is held,
1 where not, and 2 where nobody answers or there is no fleet.
"""

fleet = App(name="fleet", help="Look at a fleet of servers.")
app.command(fleet)


@fleet.command(help_epilogue=NOTES)
def status(*, admin: Admin = DEFAULT, token_file: TokenFile = None, as_json: AsJson = False) -> int:
    """Show the nodes of a fleet, and the places of the one that is asked."""
    found = admin_client(admin, token_file).get("/api/v1/fleet")
    print(*([json.dumps(found)] if as_json else _lines(found)), sep="\n")
    return 0 if found["answers"] and found["lease_seconds"] > 0 else 1


def _lines(found: dict[str, Any]) -> list[str]:
    lease = format_duration(round(found["lease_seconds"]))
    answers = "answers" if found["answers"] else "does not answer"
    lines = [
        f"fleet      {escape(found['name'])}, {1 + len(found['nodes'])} nodes",
        f"directory  {escape(found['directory'])}, {answers}; lease for {lease}, "
        f"epoch {found['epoch']}",
        f"elsewhere  {found['places']} places, {found['listening']} listened for here, "
        f"{found['links']} links",
        f"this node  {escape(found['id'])}{_draining(found)}, {found['own_routes']} places",
    ]
    for node in found["nodes"]:
        lines.append(
            f"node       {escape(node['id'])}{_draining(node)}, {escape(node['address'])}, version "
            f"{escape(node['version'])}, {node['load']} sessions, {node['routes']} places"
        )
    for route in found["routes"]:
        shared = ", shared" if route["shared"] else ""
        user = f" of {escape(route['user'])}" if route["user"] else ""
        lines.append(
            f"place      {escape(route['place'])}, session {route['session']}{user}, "
            f"epoch {route['epoch']}{shared}"
        )
    return lines


def _draining(node: dict[str, Any]) -> str:
    return " (draining)" if node["draining"] else ""
