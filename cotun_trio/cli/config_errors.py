"""All errors of a table of a configuration file, where reading it stops at the first.

An option is at fault where the error goes away or becomes another one without it.  It is left out
then, and the rest is tried again.  Errors that follow from what was left out are not reported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Table: TypeAlias = dict[str, Any]
Attempt: TypeAlias = Callable[[Table], str | None]
"""Returns the first error of a table, or None."""

MAX_ERRORS = 20
"""Errors that are looked for in one table: each takes some tries."""


class ConfigErrors:
    """The errors of `table`, by `attempt`.

    `required` has a value for each option that cannot be left out, and that is fine.
    """

    def __init__(self, table: Table, attempt: Attempt, required: Mapping[str, Any]) -> None:
        self._table = dict(table)
        self._attempt = attempt
        self._required = required
        self._left_out: set[str] = set()
        self.found: list[str] = []
        """The errors, once each, in the order in which they were found."""
        self.elsewhere: str | None = None
        """The one of them that is not from the table: of a variable, for example."""

    def find(self) -> None:
        """Find all errors, or `MAX_ERRORS`."""
        while len(self.found) < MAX_ERRORS and (error := self._attempt(self._table)) is not None:
            if error not in self.found and not self._follows(error):
                self.found.append(error)
            names = self._missing(error) or self._at_fault(error)
            if not names:
                self.elsewhere = error
                return
            for name in names:
                self._mend(name, error)

    def _follows(self, error: str) -> bool:
        """Return whether an error may only be there because an option is left out."""
        return any(_names(error, name) for name in self._left_out)

    def _missing(self, error: str) -> list[str]:
        """Return the required option that the error misses."""
        for name, value in self._required.items():
            if name not in self._table and self._attempt({**self._table, name: value}) != error:
                return [name]
        return []

    def _without(self, *names: str) -> Table:
        """Return the table without some options, or with a value for them that is fine."""
        kept = {name: value for name, value in self._table.items() if name not in names}
        return kept | {name: self._required[name] for name in names if name in self._required}

    def _at_fault(self, error: str) -> list[str]:
        """Return the options without which there is not this error; as few as there can be."""
        one = self._one_at_fault(error)
        return self._several_at_fault(error) if one is None else [one]

    def _one_at_fault(self, error: str) -> str | None:
        needed = None  # an option that another one needs: only where nothing else helps
        for name in sorted(self._table, key=lambda name: not _names(error, name)):
            other = self._attempt(self._without(name))
            if other == error:
                continue
            if other is None or not _names(other, name):
                return name
            needed = needed or name
        return needed

    def _several_at_fault(self, error: str) -> list[str]:
        """Return the options that have one error in the same words."""
        names = list(self._table)
        if self._attempt(self._without(*names)) == error:
            return []
        for name in list(names):
            fewer = [each for each in names if each != name]
            if self._attempt(self._without(*fewer)) != error:
                names = fewer
        return names

    def _mend(self, name: str, error: str) -> None:
        """Leave out the value of an option, or the one of several that causes the error."""
        values = self._table.get(name)
        if isinstance(values, list) and len(values) > 1:
            low, high = 0, len(values)
            while high - low > 1:  # the first values cause it, where they are `high` of them
                middle = (low + high) // 2
                if self._attempt({**self._table, name: values[:middle]}) == error:
                    high = middle
                else:
                    low = middle
            if self._attempt({**self._table, name: values[high - 1 : high]}) == error:
                self._table[name] = values[: high - 1] + values[high:]
                return
        self._table = self._without(name)
        if name not in self._required:
            self._left_out.add(_option(name))


def _names(error: str, name: str) -> bool:
    """Return whether an error has the name of an option in it, as one has to write it."""
    return re.search(rf"(?:--|'){re.escape(_option(name))}(?![\w-])", error) is not None


def _option(name: str) -> str:
    return name.replace("_", "-")
