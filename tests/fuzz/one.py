"""Fuzzes one target, with atheris: ``python -m tests.fuzz.one TARGET [libFuzzer's arguments]``."""

from __future__ import annotations

import importlib
import sys
import tempfile
import zlib
from typing import TYPE_CHECKING

import atheris

from tests.fuzz import oracle
from tests.fuzz.known import MODULES

if TYPE_CHECKING:
    from collections.abc import Callable

INSTRUMENTED = ["cotun_trio", "h11"]
"""What has its branches counted; what the targets themselves do is no news."""
COUNTED = 8
"""Of so many inputs one has its work counted, which takes three times as long."""


def main() -> None:
    """Import the target with all that it needs, instrumented, and let libFuzzer drive it.

    A target may have ``LONGEST``, the bytes of its longest input, and ``WORDS``, which occur in its
    language.
    """
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = importlib.import_module(MODULES[name])
    longest, words = getattr(target, "LONGEST", 2048), getattr(target, "WORDS", ())
    with tempfile.NamedTemporaryFile("w", suffix=".dict") as dictionary:
        dictionary.write("".join(map(_entry, words)))
        dictionary.flush()
        arguments = [*sys.argv, f"-max_len={longest}"]
        if words:
            arguments.append(f"-dict={dictionary.name}")
        atheris.Setup(arguments, _counting_at_times(target.run))
        atheris.Fuzz()


def _entry(word: bytes) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n'


def _counting_at_times(run: Callable[[bytes], None]) -> Callable[[bytes], None]:
    def run_one(data: bytes) -> None:
        # Not by chance: an input that was found has to be found again.
        oracle.Work.counts = zlib.crc32(data) % COUNTED == 0
        run(data)

    return run_one


if __name__ == "__main__":
    main()
