"""``cotun-trio config``: commands about the configuration file."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import App, Parameter

from cotun_trio.cli.app import app, parse, warn
from cotun_trio.cli.config_file import TABLES, load_config
from cotun_trio.cli.plan import Plan
from cotun_trio.errors import CotunError, UsageError
from cotun_trio.escape import escape

NOTES = """
Files that it names are looked at, too: keys, certificates, users.  Nothing is
listened on, and nobody is connected to.

The exit status is 0 where the file could be used as it is, and 2 where not.
"""

config = App(name="config", help="Work with a configuration file.")
app.command(config)


@config.command(help_epilogue=NOTES, usage="Usage: cotun-trio config check FILE")
def check(
    file: Annotated[str, Parameter(name="FILE", help="The file, as --config would have it.")], /
) -> int:
    """Say whether a configuration file could be used."""
    tables = load_config(file)
    if not tables:
        raise UsageError(f"the configuration file {escape(file)} is empty: it has no [server] and "
                         "no [client]")  # fmt: skip
    for command in TABLES:
        if command in tables:
            try:
                plan = parse([command, f"--config={file}"])
                assert isinstance(plan, Plan)
                for warning in (*plan.warnings, *plan.check()):
                    warn(warning)
            except CotunError as error:
                raise UsageError(f"{escape(file)}, [{command}]: {error}") from None
            print(f"{escape(file)}, [{command}]: fine")
    sys.stdout.flush()
    return 0
