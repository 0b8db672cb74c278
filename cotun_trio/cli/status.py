"""``cotun-trio status``, ``sessions``, ``kick`` and ``top``: a look into a running program."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

from cyclopts import Parameter

from cotun_trio.cli.app import app
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape
from cotun_trio.units import format_duration, show_bytes

if TYPE_CHECKING:
    from rich.table import Table

    from cotun_trio.cli.admin_client import AdminClient

STATUS_NOTES = """
The exit status is 0 where new connections are carried, 1 where not, and 2 where
nobody answers.
"""
SESSIONS_NOTES = """
The exit status is 0, or 1 where there is no such session.
"""
NO_SESSION = "cotun-trio: there is no session {}"
KICK_NOTES = """
A client connects again after a while, unless it may not: remove its user first.

The exit status is 0, or 1 where there is no such session.
"""
SHOWN = 60
"""Characters of a peer's text in a table."""
DEFAULT = "unix:/run/cotun-trio/admin.sock"
"""Where the units have the interface."""

Admin = Annotated[
    str,
    Parameter(
        env_var="COTUN_ADMIN",
        metavar="ADDRESS",
        help="The --admin-listen of the server or the client: unix:/PATH or [ADDRESS:]PORT.",
    ),
]
TokenFile = Annotated[
    str | None,
    Parameter(
        env_var="COTUN_ADMIN_TOKEN_FILE",
        metavar="PATH",
        show_default=False,
        help="The file with its token, where it has a port.",
    ),
]
AsJson = Annotated[
    bool, Parameter(name="--json", show_default=False, help="Print JSON, for programs.")
]


def admin_client(admin: str, token_file: str | None) -> AdminClient:
    """Return the client of an interface, with the token of a file where that is needed."""
    from cotun_trio.cli.admin_client import AdminClient  # a tunnel does not wait for it

    return AdminClient(admin, token_file)


@app.command(help_epilogue=STATUS_NOTES)
def status(*, admin: Admin = DEFAULT, token_file: TokenFile = None, as_json: AsJson = False) -> int:
    """Say how a running server or client is (it needs --admin-listen)."""
    stats = admin_client(admin, token_file).get("/api/v1/stats")
    if as_json:
        print(json.dumps(stats))
    else:
        print(*_lines(stats), sep="\n")
    return 0 if stats["ready"] else 1


def _lines(stats: dict[str, Any]) -> list[str]:
    state = "ready" if stats["ready"] else f"not ready: {escape(str(stats['not_ready_because']))}"
    total = stats["sessions"] + stats["ended"]
    workers = [
        f"worker {each['number']}  process {each['process']}, {_load(each)}"
        for each in stats["workers"]
    ]
    received, sent = show_bytes(stats["bytes_in"]), show_bytes(stats["bytes_out"])
    return [
        f"cotun-trio {stats['version']} {stats['role']}, {state}",
        f"up        {format_duration(round(stats['uptime']))}",
        f"sessions  {stats['sessions']} ({total} so far), {stats['channels']} channels",
        f"traffic   {received} received, {sent} sent",
        f"dropped   {stats['dropped']} datagrams",
        f"memory    {show_bytes(stats['memory'])}, {stats['descriptors']} descriptors",
        *workers,
    ]


def _load(worker: dict[str, Any]) -> str:
    if not worker["answers"]:
        return "does not answer"
    return f"{worker['sessions']} sessions, {show_bytes(worker['memory'])}"


@app.command(help_epilogue=SESSIONS_NOTES, usage="Usage: cotun-trio sessions [OPTIONS] [SESSION]")
def sessions(
    session: Annotated[
        str | None,
        Parameter(name="SESSION", show_default=False, help="List the connections of this one."),
    ] = None,
    /,
    *,
    admin: Admin = DEFAULT,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> int:
    """List the open sessions of a running server or client, or the connections of one."""
    path = "/api/v1/sessions"
    if session is not None:
        path += f"/{quote(session, safe='')}/channels"
    found = admin_client(admin, token_file).find(path)
    if found is None:
        print(NO_SESSION.format(escape(session or "")), file=sys.stderr)
        return 1
    if as_json:
        print(json.dumps(found))
        return 0
    from rich.console import Console

    if session is None:
        Console().print(_table(found, {}))
        return 0
    Console().print(_channel_table(found["channels"]))
    if more := found["count"] - len(found["channels"]):
        print(f"... and {more} more")
    return 0


@app.command(help_epilogue=KICK_NOTES, usage="Usage: cotun-trio kick [OPTIONS] SESSION")
def kick(
    session: Annotated[str, Parameter(name="SESSION", help="Its number, as in the list.")],
    /,
    *,
    reason: Annotated[
        str, Parameter(metavar="TEXT", help="The reason that its peer is told.")
    ] = "ended by an administrator",
    admin: Admin = DEFAULT,
    token_file: TokenFile = None,
) -> int:
    """End a session of a running server or client."""
    path = f"/api/v1/sessions/{quote(session, safe='')}?reason={quote(reason, safe='')}"
    if admin_client(admin, token_file).delete(path) is None:
        print(NO_SESSION.format(escape(session)), file=sys.stderr)
        return 1
    return 0


@app.command
def top(
    *,
    admin: Admin = DEFAULT,
    token_file: TokenFile = None,
    interval: Annotated[
        float, Parameter(metavar="SECONDS", help="How long the screen stays as it is.")
    ] = 1.0,
) -> int:
    """Show the open sessions and their traffic until Ctrl-C."""
    if not interval > 0:
        raise UsageError("--interval is a number of seconds above 0")
    from rich.console import Console
    from rich.live import Live

    client = admin_client(admin, token_file)
    before: dict[str, tuple[float, int, int]] = {}
    with contextlib.suppress(KeyboardInterrupt), Live(console=Console(), screen=True) as live:
        while True:
            found = client.get("/api/v1/sessions")
            live.update(_table(found, before), refresh=True)
            now = time.monotonic()
            before = {each["id"]: (now, each["bytes_in"], each["bytes_out"]) for each in found}
            time.sleep(interval)
    return 0


def _table(found: list[dict[str, Any]], before: dict[str, tuple[float, int, int]]) -> Table:
    """Return the sessions as a table; with rates, where it is known how they were `before`."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    numeric = ("session", "open", "channels", "received", "sent")
    for name in ("session", "user", "peer", "open", "channels", "received", "sent", "remotes"):
        table.add_column(name, justify="right" if name in numeric else "left")
    now = time.monotonic()
    for each in found:
        then, received, sent = before.get(each["id"], (None, 0, 0))
        if then is None:
            traffic = show_bytes(each["bytes_in"]), show_bytes(each["bytes_out"])
        else:
            elapsed = max(now - then, 1e-3)
            traffic = (
                f"{show_bytes(round((each['bytes_in'] - received) / elapsed))}/s",
                f"{show_bytes(round((each['bytes_out'] - sent) / elapsed))}/s",
            )
        words = (
            each["id"],
            escape(each["user"] or "-", SHOWN),
            escape(each["peer"], SHOWN),
            format_duration(round(each["seconds"])),
            str(each["channels"]),
            *traffic,
            escape(", ".join(each["remotes"]) or "none", SHOWN),
        )
        table.add_row(*map(Text, words))  # no markup: a user may be called [red]
    return table


def _channel_table(found: list[dict[str, Any]]) -> Table:
    """Return the connections of a session as a table."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("conn", "open", "received", "sent"):
        table.add_column(name, justify="right")
    for name in ("opened by", "from", "leads to"):
        table.add_column(name)
    for each in found:
        received, sent = each["bytes_in"], each["bytes_out"]
        words = (
            "-" if each["number"] is None else str(each["number"]),
            format_duration(round(each["seconds"])),
            "-" if received is None else show_bytes(received),
            "-" if sent is None else show_bytes(sent),
            each["opened_by"],
            escape(each["source"] or "-", SHOWN),
            escape(each["socks_target"] or each["target"] or each["remote"], SHOWN),
        )
        table.add_row(*map(Text, words))
    return table
