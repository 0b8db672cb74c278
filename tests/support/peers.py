"""The programs of others that tests talk to: tests skip without them, and say how to get them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from scripts.peers import PACKAGES, find

if TYPE_CHECKING:
    from collections.abc import Iterable

CHISEL_MISSING = "not installed: chisel (it is not on PATH, and $CHISEL does not name one)"


def lacking(*programs: str) -> str | None:
    """Return why tests that need `programs` skip; None where all are there."""
    absent = [program for program in programs if find(program) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def needs(*programs: str) -> pytest.MarkDecorator:
    """Return the mark of a test that needs `programs`, which ``make peers`` installs."""
    unknown = set(programs) - set(PACKAGES)
    assert not unknown, f"make peers does not know {unknown}"
    reason = lacking(*programs)
    return pytest.mark.skipif(reason is not None, reason=str(reason))


def advice(reasons: Iterable[str]) -> str | None:
    """Return how to get what tests were skipped for, in one line; None where nothing was missing.

    `reasons` are those of skipped tests, for any cause.
    """
    found = (re.search(r"not installed: ([\w-]+(?:, [\w-]+)*)", reason) for reason in reasons)
    wanted = {program for match in found if match for program in match[1].split(", ")}
    parts = []
    if packaged := sorted(wanted - {"chisel"}):
        parts.append(f"make peers, as root on Debian, installs {', '.join(packaged)}")
    if "chisel" in wanted:
        parts.append("README, Working on it, says how to get chisel")
    return f"For the skipped tests: {'; '.join(parts)}." if parts else None
