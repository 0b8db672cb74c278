"""The command line: from the words that a user types to frozen settings.

Options keep the names, defaults and variables of the Go programs.  A wrong command line ends
with a line that names the mistake, and status 2, before anything is opened.

* `app`: the program, and the options that several commands have.
* `client`, `server`, `doctor`, `check_auth`, `hash_password`, `forget`, `config`, `completion`: one
  command each.
* `route_options`: the options of the way to a server, for those that take one.
* `doctor_report`: what ``doctor`` prints.
* `status`, `events`, `bars`, `log_level`, `fleet`: the commands that look into a running program,
  and change it.
* `admin_client`: how they ask it.
* `keygen`: ``server --keygen``.  `server_tls`, `server_limits`, `fleet_options`, `visitor_options`:
  some of the server's options together.
* `groups`: the groups of options in the help.
* `config_file`: options from a file; `remote_tables`: its remotes; `config_errors`: all that is
  wrong with it.
* `plan`: settings, and the program to run with them.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from cotun_trio.cli import (  # they register their commands
    bars,  # noqa: F401
    check_auth,  # noqa: F401
    client,  # noqa: F401
    completion,  # noqa: F401
    config,  # noqa: F401
    doctor,  # noqa: F401
    events,  # noqa: F401
    fleet,  # noqa: F401
    forget,  # noqa: F401
    hash_password,  # noqa: F401
    log_level,  # noqa: F401
    server,  # noqa: F401
    status,  # noqa: F401
)
from cotun_trio.cli.app import hint, parse, warn
from cotun_trio.cli.plan import Plan
from cotun_trio.errors import UsageError
from cotun_trio.system import unused_imports

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line, and exit."""
    words = sys.argv[1:] if argv is None else argv
    unused_imports.leave_out()
    for name in ("HOST", "PORT", "AUTH"):
        if not os.environ.get(name, "unset"):  # empty is unset, as to the Go programs
            del os.environ[name]
    try:
        result = parse(words)
        if isinstance(result, Plan):
            for warning in result.warnings:
                warn(warning)
            for line in result.hints:
                hint(line)
            result = result.run(lambda: _plan(words))
    except UsageError as error:
        print(f"cotun-trio: {error}", file=sys.stderr)
        result = 2
    sys.exit(result)


def _plan(words: Sequence[str]) -> Plan:
    plan = parse(words)
    assert isinstance(plan, Plan)  # as the first time
    return plan
