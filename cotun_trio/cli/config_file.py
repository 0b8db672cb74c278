"""The configuration file: a table for each command, with the names of its options.

The file fills in options that neither the command line nor the environment gives; cyclopts does
that.  The rest is here: the file is named by an option, an unknown name is an error that shows the
nearest one that exists, and SERVER and REMOTE, which have no names, replace the values of the file.
"""

from __future__ import annotations

import contextlib
import difflib
import stat
import tomllib
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts.config import Dict

from cotun_trio.access.files import read_named
from cotun_trio.cli.remote_tables import write_out_remotes
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cyclopts import App
    from cyclopts.argument import ArgumentCollection

MAX_SIZE = 16 * 1024 * 1024
"""Bytes of a configuration file: a client's remotes by the hundred thousand."""
SECRETS = ("auth", "key", "header", "proxy")
TABLES = ("server", "client")
_TABLE_OF = {"server": "server", "client": "client", "doctor": "client"}
"""The table that has the options of a command."""
_NOT_IN_FILES = {"--config", "--keygen", "--force", "--help", "--version"}
_SET_ASIDE = {"SERVER": "server", "REMOTE": "remote"}
"""Options that give way to a positional argument."""


_TRIED: ContextVar[dict[str, dict[str, Any]] | None] = ContextVar("tried", default=None)


@contextlib.contextmanager
def instead_of_file(tables: dict[str, dict[str, Any]]) -> Iterator[None]:
    """Have `tables` read in place of any configuration file, by this task."""
    token = _TRIED.set(tables)
    try:
        yield
    finally:
        _TRIED.reset(token)


def load_config(path: str) -> dict[str, dict[str, Any]]:
    """Read a configuration file, and return its tables.  Raises `UsageError` that names it."""
    if (tried := _TRIED.get()) is not None:
        return tried
    tables = read_toml(path)
    for error in wrong_tables(tables):
        raise UsageError(f"the configuration file {escape(path)}: {error}")
    return tables


def read_toml(path: str) -> dict[str, Any]:
    """Read a TOML file.  Raises `UsageError` that names it."""
    shown = f"the configuration file {escape(path)}"
    data = read_named("the configuration file", path, most=MAX_SIZE + 1).data
    if len(data) > MAX_SIZE:
        raise UsageError(f"{shown} has over {MAX_SIZE} bytes")
    try:
        tables: dict[str, Any] = tomllib.loads(data.decode())
    except UnicodeDecodeError:
        raise UsageError(f"{shown} is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{shown}: {escape(str(error))}") from None
    except RecursionError:
        raise UsageError(f"{shown}: brackets in brackets without end") from None
    return tables


def wrong_tables(tables: dict[str, Any]) -> Iterator[str]:
    """Yield an error for each table that is not for a command."""
    for name, table in tables.items():
        if name not in TABLES:
            yield f"there is no [{escape(name)}]{_nearest(name, TABLES)}"
        elif not isinstance(table, dict):
            yield f"{name} is a table, and begins with a line [{name}]"


def warnings_about(path: str | None) -> list[str]:
    """Return advice about a configuration file with unsafe modes: a line each.

    Raises `UsageError` where one that holds a secret could be changed by others.
    """
    if path is None or _TRIED.get() is not None:
        return []
    return mode_warnings(path, load_config(path).values())


def mode_warnings(path: str, tables: Iterable[dict[str, Any]]) -> list[str]:
    """Return the warnings about a file that has these tables; see `warnings_about`."""
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:  # it was there a moment ago
        raise UsageError(
            f"cannot read the configuration file {escape(path)}: {error.strerror}"
        ) from None
    secret = any(name in table for table in tables for name in SECRETS)
    if secret:
        read_named("the configuration file", path, most=0, secret=True)
    if mode & stat.S_IWOTH:
        return [f"{escape(path)} can be changed by everybody: chmod o-w it"]
    if secret and mode & stat.S_IROTH:
        return [f"{escape(path)} holds a secret and can be read by everybody: chmod o-r it"]
    return []


def fill_in(app: App, part: App, commands: Sequence[str], arguments: ArgumentCollection) -> None:
    """Fill in options without a value from the file of ``--config``, for a command of `app`.

    `part` is the app of that command.  Raises `UsageError`.
    """
    (command,) = commands if len(commands) == 1 else ("",)
    name = _TABLE_OF.get(command)
    path = next((a.tokens[0].value for a in arguments if a.name == "--config" and a.tokens), None)
    if name is None or path is None:
        return
    table = dict(load_config(path).get(name, {}))
    where = f"the configuration file {escape(path)}, [{name}]"
    known = app[name].assemble_argument_collection()
    _check_names(table, known, where)
    write_out_remotes(table, where)
    if command != name:  # it need not have all of them
        table = {key: table[key] for key in table if _option(key) in _options(arguments)}
    for argument in arguments:
        if argument.name in _SET_ASIDE and argument.tokens:
            table.pop(_SET_ASIDE[argument.name], None)
    Dict({command: table}, source=path)(part, tuple(commands), arguments)


def _check_names(table: Iterable[str], arguments: ArgumentCollection, where: str) -> None:
    """Raise `UsageError` unless all names in `table` are those of options."""
    names = {option.removeprefix("--") for option in _options(arguments) - _NOT_IN_FILES}
    for name in table:
        if _option(name).removeprefix("--") not in names:
            raise UsageError(
                f"{where}: there is no option '{escape(name)}'{_nearest(name, sorted(names))}"
            )


def _options(arguments: ArgumentCollection) -> set[str]:
    return {name for each in arguments for name in each.names if name.startswith("--")}


def _option(name: str) -> str:
    """Return the option that has this name in a file."""
    return f"--{name.replace('_', '-')}"


def _nearest(name: str, names: Iterable[str]) -> str:
    found = difflib.get_close_matches(name.lower().replace("_", "-"), names, n=1)
    return f"; did you mean '{found[0]}'?" if found else ""
