"""Variables of the environment: each ``COTUN_…`` one is ``CHISEL_…``, too, as chisel names it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIXES = "COTUN_", "CHISEL_"
"""The first one that is there counts."""


def find_variable(environment: Mapping[str, str], name: str) -> tuple[str, str | None]:
    """Return the full name of the variable `name`, which is given without a prefix, and its text.

    An empty one counts as not there.  Where there is none, the name is ours and the text None.
    """
    for prefix in PREFIXES:
        if text := environment.get(prefix + name):
            return prefix + name, text
    return PREFIXES[0] + name, None
