"""Exact versions with hashes, ``make lock``: of what packages carry, and of what builds them.

``scripts/requirements.lock`` has all that our own package needs, with its extras: the image, the
system packages and the single file carry that.  ``scripts/packaging/tools.lock`` has the programs
that build them, the group ``packaging`` of pyproject.toml.  Both hold for each Python from 3.11 on;
a line may have a marker for some of them.

What a lock has stays as it is, where pyproject.toml allows it: ``make lock ARGS=--upgrade`` takes
the newest versions, ``make lock ARGS="--upgrade-package trio"`` those of one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.packaging.reproducible import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

REQUIREMENTS = ROOT / "scripts" / "requirements.lock"
TOOLS = ROOT / "scripts" / "packaging" / "tools.lock"
EXTRAS = ("fleet", "metrics")
"""The extras of pyproject.toml whose packages are carried."""
OLDEST = "3.11"
LOCKS = {
    REQUIREMENTS: [*(f"--extra={extra}" for extra in EXTRAS), "pyproject.toml"],
    TOOLS: ["--group=pyproject.toml:packaging"],
}
"""What uv is told for each lock."""


class Pin(NamedTuple):
    """A package in a lock."""

    requirement: Requirement
    hashes: frozenset[str]
    """Of each file of that version, SHA-256, in hexadecimal digits."""

    @property
    def name(self) -> str:
        """Its name as indexes write it."""
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        """Its version."""
        (specifier,) = self.requirement.specifier
        return specifier.version

    def is_for(self, markers: Mapping[str, str]) -> bool:
        """Return whether it is for a Python and a system that `markers` describe."""
        marker = self.requirement.marker
        return marker is None or marker.evaluate(dict(markers))

    def __str__(self) -> str:
        """Return it as pip reads it."""
        hashes = "".join(f" --hash=sha256:{digest}" for digest in sorted(self.hashes))
        return f"{self.name}=={self.version}{hashes}"


def pins(path: Path = REQUIREMENTS) -> Iterator[Pin]:
    """Yield what a lock has."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        words, _, comment = line.partition("#")
        del comment
        if words.strip():
            requirement, *hashes = words.split(" --hash=sha256:")
            yield Pin(Requirement(requirement.strip()), frozenset(map(str.strip, hashes)))


def write(path: Path, words: Sequence[str]) -> None:
    """Make a lock; `words` are options of uv's."""
    command = [
        *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal"),
        *("--generate-hashes", "--no-emit-index-url", "--no-emit-find-links"),
        *(f"--python-version={OLDEST}", f"--output-file={path.relative_to(ROOT)}"),
        *LOCKS[path],
        *words,
    ]
    said = {"UV_CUSTOM_COMPILE_COMMAND": "make lock"}
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, **said})


def main(words: Sequence[str]) -> int:
    """Make both locks; return the exit status."""
    try:
        for path in LOCKS:
            write(path, words)
            print(f"{path.relative_to(ROOT)}: {len(list(pins(path)))} packages")
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
