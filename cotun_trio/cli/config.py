"""``cotun-trio config``: commands about the configuration file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from cotun_trio.cli.app import app, parse, warn
from cotun_trio.cli.config_errors import ConfigErrors, Table
from cotun_trio.cli.config_file import (
    TABLES,
    instead_of_file,
    mode_warnings,
    read_toml,
    wrong_tables,
)
from cotun_trio.cli.plan import Plan
from cotun_trio.errors import CotunError, UsageError
from cotun_trio.escape import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

NOTES = """
Files that it names are looked at, too: keys, certificates, users.  Nothing is
listened on, and nobody is connected to.

All errors are said, not only the first one.

The exit status is 0 where the file could be used as it is, and 2 where not.
"""

config = App(name="config", help="Work with a configuration file.")
app.command(config)


_REQUIRED: dict[str, Table] = {
    "server": {},
    "client": {"server": ["https://server.invalid"], "remote": ["3000"]},
}
"""The options that a table cannot do without, with values that are fine."""


@config.command(help_epilogue=NOTES, usage="Usage: cotun-trio config check FILE")
def check(
    file: Annotated[str, Parameter(name="FILE", help="The file, as --config would have it.")], /
) -> int:
    """Say whether a configuration file could be used."""
    tables = read_toml(file)
    shown = escape(file)
    if not tables:
        raise UsageError(f"the configuration file {shown} is empty: it has no [server] and "
                         "no [client]")  # fmt: skip
    errors = [f"the configuration file {shown}: {error}" for error in wrong_tables(tables)]
    good = {name: tables[name] for name in TABLES if isinstance(tables.get(name), dict)}
    warnings: list[str] = []
    try:
        warnings += mode_warnings(file, good.values())
    except UsageError as error:
        errors.append(str(error))
    for command, table in good.items():
        trial = _Trial(file, command)
        found = ConfigErrors(table, trial.attempt, _REQUIRED[command])
        found.find()
        errors += [f"{shown}, [{command}]: {each}" for each in found.found]
        if not found.found:
            warnings += trial.warnings
            print(f"{shown}, [{command}]: fine")
        elif found.elsewhere is not None:
            break  # it would come again
    sys.stdout.flush()
    return _report(warnings, errors)


def _report(warnings: Sequence[str], errors: Sequence[str]) -> int:
    """Print warnings and errors, once each; return the exit status."""
    for line in dict.fromkeys(warnings):
        warn(line)
    for line in dict.fromkeys(errors):
        print(f"cotun-trio: {line}", file=sys.stderr)
    return 2 if errors else 0


class _Trial:
    """Tries tables for a command in place of that in a file."""

    def __init__(self, file: str, command: str) -> None:
        self.warnings: tuple[str, ...] = ()
        """Warnings about the latest table, if it had no error."""
        self._words = [command, f"--config={file}"]
        self._command = command
        self._prefix = f"the configuration file {escape(file)}, [{command}]: "

    def attempt(self, table: dict[str, Any]) -> str | None:
        """Return the first error of a table; None where it could be used."""
        try:
            with instead_of_file({self._command: table}):
                plan = parse(self._words)
            assert isinstance(plan, Plan)
            self.warnings = (*plan.warnings, *plan.check())
        except CotunError as error:
            return str(error).removeprefix(self._prefix)
        return None
