"""``cotun-trio log-level``: the level of a running program's log."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from cotun_trio.cli.app import app
from cotun_trio.cli.status import DEFAULT, Admin, TokenFile, admin_client

PATH = "/api/v1/log-level"


@app.command(usage="Usage: cotun-trio log-level [OPTIONS] [LEVEL]")
def log_level(
    level: Annotated[
        Literal["trace", "debug", "info", "warning"] | None,
        Parameter(
            name="LEVEL",
            show_default=False,
            help="The level from now on; trace is for connections that begin after that.",
        ),
    ] = None,
    /,
    *,
    admin: Admin = DEFAULT,
    token_file: TokenFile = None,
) -> int:
    """Print the level of a running server's or client's log, or set it until it ends."""
    client = admin_client(admin, token_file)
    found = client.get(PATH) if level is None else client.put(PATH, {"level": level})
    print(found["level"])
    return 0
