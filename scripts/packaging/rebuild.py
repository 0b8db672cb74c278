"""Build the last commit once more elsewhere, and compare with ``dist``: ``make rebuild``.

A fresh clone in another directory, with tools of its own, another umask, language and time zone,
has to give the same bytes for each file in ``dist``; ``make rebuild ARGS=dist`` builds and compares
only what ``make dist`` makes.  With a tag checked out, this shows whether what has been published
comes from its source: put it into ``dist`` before.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.packaging.reproducible import ROOT, sha256

if TYPE_CHECKING:
    from collections.abc import Sequence

ALL = ("image", "image ARCH=arm64", "packages", "dist")
"""What make is told, in turn, for all that is published."""
ELSEWHERE = {"TZ": "Asia/Kathmandu", "LC_ALL": "POSIX", "PYTHONHASHSEED": "7"}
UMASK = 0o027
_OURS = ("MAKE", "MFLAGS", "SOURCE_DATE_EPOCH", "LC_", "LANG")
"""What the other build is not to have from this one."""


def differences(first: Path, second: Path, *, partly: bool = False) -> list[str]:
    """Return how the files of two directories differ, a line each; `partly` where the second one is
    not to have all of them."""
    hashes = [
        {path.name: sha256(path) for path in directory.iterdir()} for directory in (first, second)
    ]
    found = []
    for name in sorted(hashes[0].keys() | hashes[1].keys()):
        mine, other = (each.get(name) for each in hashes)
        if mine is None:
            found.append(f"{name} is not in {first}")
        elif other is None:
            if not partly:
                found.append(f"{name} has not been built elsewhere")
        elif mine != other:
            found.append(f"{name} has other bytes elsewhere: {mine} here, {other} there")
    return found


def rebuild(targets: Sequence[str]) -> list[str]:
    """Make `targets` in a clone of the last commit, or all; return the differences."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    with tempfile.TemporaryDirectory(prefix="cotun-trio-") as place:
        clone = Path(place) / "another-place" / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        for words in targets or ALL:
            command = ["make", *words.split()]
            subprocess.run(command, cwd=clone, check=True, env={**env, **ELSEWHERE}, umask=UMASK)
        return differences(ROOT / "dist", clone / "dist", partly=bool(targets))


def main(words: Sequence[str] | None = None) -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(description="Build once more elsewhere, and compare.")
    parser.add_argument("targets", nargs="*", help="what make is told; all, where nothing is said")
    options = parser.parse_args(words)
    try:
        found = rebuild(options.targets)
    except subprocess.CalledProcessError as error:
        print(f"{' '.join(map(str, error.cmd))} failed", file=sys.stderr)
        return 1
    if found:
        print("Another build gives something else:", *found, sep="\n  ", file=sys.stderr)
        return 1
    print("Another build elsewhere gives the same bytes.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
