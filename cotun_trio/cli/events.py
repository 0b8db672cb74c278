"""``cotun-trio events``: the latest events of a running program, and those to come."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Annotated, Any

from cyclopts import Parameter

from cotun_trio.cli.app import app
from cotun_trio.cli.status import DEFAULT, Admin, AsJson, TokenFile, admin_client
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape

PATH = "/api/v1/events"


@app.command
def events(
    *,
    admin: Admin = DEFAULT,
    token_file: TokenFile = None,
    last: Annotated[
        int, Parameter(metavar="NUMBER", help="How many of the latest are printed.")
    ] = 20,
    follow: Annotated[
        bool,
        Parameter(show_default=False, help="Print those to come, too, until Ctrl-C."),
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Print sessions that came and went, and refusals, of a running server or client."""
    if last < 0:
        raise UsageError("--last is a number of events")
    client = admin_client(admin, token_file)
    path = f"{PATH}?last={last}"
    try:
        for event in client.follow(path) if follow else client.get(path):
            print(json.dumps(event) if as_json else _line(event), flush=True)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:  # the program that reads the lines has enough of them, like head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _line(event: dict[str, Any]) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["at"]))
    facts = (f"{escape(name)}={escape(text)}" for name, text in event["facts"].items())
    return " ".join([at, escape(event["kind"]), *facts])
