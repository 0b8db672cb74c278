"""What our program makes of command lines that stand in texts."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import attrs

import cotun_trio.cli  # noqa: F401  the commands register themselves
from cotun_trio.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Sequence


def understood(command: str) -> dict[str, Any]:
    """Return what our program makes of a command that is typed; fails where it would refuse it."""
    program, *words = shlex.split(command.replace("\\\n", " "))
    assert program == "cotun-trio"
    return understood_words(words)


def understood_words(words: Sequence[str]) -> dict[str, Any]:
    """Do the same for the words of a command line, without the name of the program."""
    _command, bound, _ignored = app.parse_args(
        list(words), exit_on_error=False, print_error=False, end_of_options_delimiter=""
    )
    found: dict[str, Any] = {}
    for name, value in bound.arguments.items():  # some are together in a class
        found |= attrs.asdict(value, recurse=False) if attrs.has(type(value)) else {name: value}
    return found
