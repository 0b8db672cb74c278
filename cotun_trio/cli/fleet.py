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
    here = f"{escape(found['id'])}{_draining(found)}"
    directory = f"{escape(found['directory'])}, {answers}"
    listening = f"{found['listening']} listened for here, {found['links']} links"
    return [
        f"fleet      {escape(found['name'])}, {1 + len(found['nodes'])} nodes",
        f"directory  {directory}; lease for {lease}, epoch {found['epoch']}",
        f"elsewhere  {found['places']} places, {listening}",
        f"this node  {here}, {found['own_routes']} places",
        *map(_node, found["nodes"]),
        *map(_place, found["routes"]),
    ]


def _node(node: dict[str, Any]) -> str:
    who = f"{escape(node['id'])}{_draining(node)}, {escape(node['address'])}"
    has = f"{node['load']} sessions, {node['routes']} places"
    return f"node       {who}, version {escape(node['version'])}, {has}"


def _place(route: dict[str, Any]) -> str:
    shared = ", shared" if route["shared"] else ""
    user = f" of {escape(route['user'])}" if route["user"] else ""
    whose = f"session {route['session']}{user}, epoch {route['epoch']}{shared}"
    return f"place      {escape(route['place'])}, {whose}"


def _draining(node: dict[str, Any]) -> str:
    return " (draining)" if node["draining"] else ""
