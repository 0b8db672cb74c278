"""``cotun-trio bars``: the sources that a running server bars for failed logins."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import Parameter

from cotun_trio.cli.app import app
from cotun_trio.cli.status import DEFAULT, Admin, AsJson, TokenFile, admin_client
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape
from cotun_trio.units import format_duration

PATH = "/api/v1/bars"
NOTES = """
The exit status is 0, or 1 where the source of --lift is not barred.
"""


@app.command(help_epilogue=NOTES)
def bars(
    *,
    lift: Annotated[
        str | None,
        Parameter(
            metavar="SOURCE",
            show_default=False,
            help="Let this source log in again at once: an address, or a /64 of IPv6.",
        ),
    ] = None,
    lift_all: Annotated[
        bool, Parameter(name="--all", show_default=False, help="The same for all sources.")
    ] = False,
    admin: Admin = DEFAULT,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> int:
    """List the sources that a running server bars for failed logins, or let them in again."""
    if lift is not None and lift_all:
        raise UsageError("--lift names one source, --all is for all of them: give one of the two")
    client = admin_client(admin, token_file)
    if lift is not None or lift_all:
        path = PATH if lift is None else f"{PATH}/{quote(lift, safe='')}"
        found = client.delete(path)
        if found is None:
            print(f"cotun-trio: {escape(lift or '')} is not barred", file=sys.stderr)
            return 1
        print(json.dumps(found) if as_json else f"{found['count']} may log in again")
        return 0
    found = client.get(PATH)
    if as_json:
        print(json.dumps(found))
    else:
        print(*_lines(found), sep="\n")
    return 0


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [
        f"{escape(bar['source'])}  for {format_duration(round(bar['seconds']))}  bar {bar['bars']}"
        for bar in found["bars"]
    ]
    if more := found["count"] - len(lines):
        lines.append(f"... and {more} more")
    return lines or ["nobody is barred"]
