"""Shared parts of the commands: the program itself, common options, and their notes."""

from __future__ import annotations

import os
import re
import sys
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated, Literal

import attrs
from cyclopts import App, CycloptsError, Parameter

import cotun_trio
from cotun_trio.access import known_hosts
from cotun_trio.access.credentials import Credentials
from cotun_trio.cli.config_file import TABLES, fill_in
from cotun_trio.cli.groups import CONNECTION, LOG, PROCESS
from cotun_trio.cli.plan import Plan
from cotun_trio.errors import UsageError
from cotun_trio.protocol.environment import find_variable
from cotun_trio.settings import DEFAULT_KEEPALIVE, ProcessSettings
from cotun_trio.system import pidfile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

ENVIRONMENT = """
Every duration takes a unit: 300ms, 5s, 2m, 1h30m.  More of them, and their
defaults, can be set in the environment:

    COTUN_DIAL_TIMEOUT    30s  a TCP connection to a server or a target
    COTUN_WS_TIMEOUT      45s  the client's WebSocket handshake
    COTUN_SSH_TIMEOUT     30s  all before an accepted config request
    COTUN_CONFIG_TIMEOUT  10s  from the login to the config request
    COTUN_SSH_WAIT        35s  a local connection waits for the tunnel
    COTUN_PING_TIMEOUT         the answer to a ping; default: the keepalive
    COTUN_BACKEND_TIMEOUT 60s  the back end's answer, and each piece of it
    COTUN_SHUTDOWN_GRACE  5s   open connections go on after SIGTERM or SIGINT
    COTUN_UDP_DEADLINE         a silent UDP source is forgotten (120s)
    COTUN_UDP_MAX_SIZE         bytes of a datagram (65507)
    COTUN_UDP_MAX_CONNS        UDP sources at a time, for each remote
    COTUN_REKEY_BYTES          bytes carried by one set of SSH keys (16 GiB)

Each COTUN_... variable is also read as CHISEL_..., where the first is not set.
"""

app: App = App(
    name="cotun-trio",
    help="A fast TCP/UDP tunnel over HTTP, secured by SSH.  Speaks with chisel and cotun.",
    version=lambda: f"cotun-trio {cotun_trio.__version__}",
    default_parameter=Parameter(negative=""),
    help_format="plaintext",
    result_action="return_value",
    config=lambda part, commands, arguments: fill_in(app, part, commands, arguments),
)

Keepalive = Annotated[
    str,
    Parameter(
        group=CONNECTION,
        metavar="DURATION",
        help="Ping the peer this often, so that proxies do not drop an idle connection; 0s: never.",
    ),
]
Verbose = Annotated[
    bool,
    Parameter(
        group=LOG,
        name=["--verbose", "-v"],
        show_default=False,
        help="Log every single connection, too.",
    ),
]
Trace = Annotated[
    bool,
    Parameter(
        group=LOG,
        name=["--trace", "-vv"],
        show_default=False,
        help="Log the name and the size of every single message, too.",
    ),
]
Quiet = Annotated[
    bool,
    Parameter(
        group=LOG,
        name=["--quiet", "-q"],
        show_default=False,
        help="Log warnings and errors only; -v has more to say.",
    ),
]
LogFormat = Annotated[
    Literal["text", "json"],
    Parameter(group=LOG, help="How the log looks: lines to read, or a JSON object on each line."),
]
Pid = Annotated[
    str | None,
    Parameter(
        group=PROCESS,
        metavar="PATH",
        show_default=False,
        help="Keep the process's number in this file while it runs; --pid alone is "
        "--pid=cotun.pid.",
    ),
]
AdminListen = Annotated[
    str | None,
    Parameter(
        group=PROCESS,
        metavar="ADDRESS",
        show_default=False,
        help="Answer administrators here: unix:/PATH, for our own user, or [ADDRESS:]PORT, for "
        "everybody with the token.  Paths: /health, /ready, /metrics, /api/v1/...  A path in "
        "COTUN_ADMIN_SOCKET adds a Unix socket; where that cannot be made, there is a warning.",
    ),
]
AdminTokenFile = Annotated[
    str | None,
    Parameter(
        group=PROCESS,
        metavar="PATH",
        show_default=False,
        help="The token for --admin-listen with a port; made if it is missing.  Without it, each "
        "start has a new one.",
    ),
]
Config = Annotated[
    str | None,
    Parameter(
        group=PROCESS,
        metavar="PATH",
        show_default=False,
        help="Read options from this TOML file that are neither on the command line nor in the "
        "environment; see below.",
    ),
]
CONFIG_NOTES = """
A configuration file has the options by their names, with - or with _, in a
table for each command; an option that can be repeated is a list there:

    {example}

The command line comes before the environment, and that before the file.
cotun-trio config check FILE says whether a file could be used.
"""
KEEPALIVE = f"{DEFAULT_KEEPALIVE:g}s"


AUTH_HINT = (
    "every user of this machine can see the password of --auth in the list of processes: put it "
    "into a file that only you can read, and give --auth-from FILE"
)


def parse(words: Sequence[str]) -> Plan | int | None:
    """Return the plan of a command line, or the exit status of a small command, which has run.

    Raises `UsageError`.
    """
    words = spelled(words)
    try:
        result: Plan | int | None = app(
            words, exit_on_error=False, print_error=False, console=_console(words)
        )
    except CycloptsError as error:
        raise UsageError(str(error)) from None
    if isinstance(result, Plan) and _shows_password(words, result):
        result = attrs.evolve(result, hints=(AUTH_HINT,))
    elif words[:1] == ["doctor"] and _has_auth(words):
        hint(AUTH_HINT)
    return result


WIDTH = 80
"""Columns of the help at the most: lines as long as a wide screen are no joy to read."""


def _console(words: Sequence[str]) -> Console | None:
    """Return the console for help; None where a command line starts a program, and asks for none.

    What draws on it takes 20 ms to import.
    """
    if words and words[0] in TABLES and not {"--help", "-h"} & set(words):
        return None
    from rich.console import Console

    console = Console()
    console.width = min(console.width, WIDTH)
    return console


def _shows_password(words: Sequence[str], plan: Plan) -> bool:
    """Return whether there is a password on the command line, and not a hash of one."""
    auth = plan.settings.auth
    return _has_auth(words) and auth is not None and not auth.password.startswith("$")


def _has_auth(words: Sequence[str]) -> bool:
    return any(word == "--auth" or word.startswith("--auth=") for word in words)


_GO_STYLE = re.compile("-([a-z][a-z0-9]*(?:-[a-z0-9]+)*)(?:=.*)?", re.DOTALL)
_OF_ALL = ("help", "version")


def spelled(words: Sequence[str]) -> list[str]:
    """Return a command line in the only way that cyclopts reads.

    The command comes first.  Options with one hyphen, as Go has them, get two.  A lone ``--pid``
    gets its value: the next word is none, as with the Go programs.  So does ``--known-hosts``,
    unless the next word is a path that cannot be a server.
    """
    end = words.index("--") if "--" in words else len(words)
    front = _command_first(list(words[:end]))
    names = _option_names(front)
    found = []
    for word, following in zip_longest(front, front[1:], fillvalue=""):
        go = _GO_STYLE.fullmatch(word)
        full = f"-{word}" if go is not None and go[1] in names else word
        if full == "--pid":
            full = f"--pid={pidfile.NAME}"
        elif full == "--known-hosts" and not following.startswith(("/", "./", "../")):
            full = "--known-hosts=true"
        found.append(full)
    return [*found, *words[end:]]


def _command_first(words: list[str]) -> list[str]:
    command = next((word for word in words if word in TABLES), None)
    if command is None or not words[0].startswith("-") or "version" in words[0]:
        return words
    rest = list(words)
    rest.remove(command)
    return [command, *rest]


def _option_names(words: Sequence[str]) -> set[str]:
    """Return the names of the options that a command line may have, if it matters."""
    names = set(_OF_ALL)
    if not any(map(_GO_STYLE.fullmatch, words)) or words[0] not in app:
        return names
    command = app[words[0]]
    if command.default_command is not None:  # none for config, which only has commands
        arguments = command.assemble_argument_collection()
        names |= {name.removeprefix("--") for each in arguments for name in each.names}
    return names


def warn(line: str) -> None:
    """Print a warning for the user, and go on."""
    print(f"cotun-trio: warning: {line}", file=sys.stderr)


def hint(line: str) -> None:
    """Print a piece of advice for the user, and go on."""
    print(f"cotun-trio: hint: {line}", file=sys.stderr)


def process_settings(
    *,
    verbose: bool,
    trace: bool,
    quiet: bool,
    form: Literal["text", "json"],
    pid: str | None,
    workers: int = 1,
) -> ProcessSettings:
    """Return the settings of the options that both commands have."""
    # In a configuration file, it may be true or false as well as a path.
    switch = {"true": pidfile.NAME, "false": None}
    path = pid if pid is None else switch.get(pid.lower(), pid)
    return ProcessSettings(
        verbose=verbose,
        trace=trace,
        quiet=quiet,
        log_format=form,
        pid=path,
        workers=workers,
    )


def known_hosts_path(text: str | None) -> str | None:
    """Return the path that ``--known-hosts`` means; it may be true or false in a file."""
    if text is None or text.lower() == "false":
        return None
    return known_hosts.default_path(os.environ) if text.lower() == "true" else text


def admin_socket() -> str | None:
    """Return the path of the variable ``COTUN_ADMIN_SOCKET``."""
    return find_variable(os.environ, "ADMIN_SOCKET")[1]


def credentials(text: str | None) -> Credentials | None:
    """Return the credentials of ``--auth``.  Raises `UsageError`, with the variable, too."""
    try:
        return None if text is None else Credentials.parse(text)
    except UsageError as error:
        raise UsageError(f"--auth (or AUTH in the environment): {error}") from None
