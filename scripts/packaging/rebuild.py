"""Build the last commit once more elsewhere, and compare with ``dist``: ``make rebuild``.

A fresh clone in another directory, with tools of its own, another umask, language and time zone,
has to give the same bytes for each file in ``dist``; ``make rebuild ARGS=dist`` builds and compares
only what ``make dist`` makes.  Nothing is built that ``dist`` does not have.  With a tag checked
out, this shows whether what has been published comes from its source: put it into ``dist`` before.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.packaging.python_packages import DIST
from scripts.packaging.reproducible import ROOT, sha256

if TYPE_CHECKING:
    from collections.abc import Sequence

MADE_BY = {
    "image": "*-amd64.oci.tar",
    "image ARCH=arm64": "*-arm64.oci.tar",
    "packages": "*.deb",
    "dist": "*.whl",
}
"""What make is told, in turn, for all that is published, and a file that it makes."""
ALL = tuple(MADE_BY)
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


def found_in(dist: Path) -> list[str]:
    """Return the words for make that make the files in `dist` again, in turn."""
    return [words for words, pattern in MADE_BY.items() if any(dist.glob(pattern))]


def rebuild(targets: Sequence[str]) -> list[str]:
    """Make `targets` in a clone of the last commit, or what `dist` has; return the differences."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    with tempfile.TemporaryDirectory(prefix="cotun-trio-") as place:
        clone = Path(place) / "another-place" / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        for words in targets or found_in(DIST):
            command = ["make", *words.split()]
            subprocess.run(command, cwd=clone, check=True, env={**env, **ELSEWHERE}, umask=UMASK)
        return differences(DIST, clone / "dist", partly=bool(targets))


def main(words: Sequence[str] | None = None) -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(description="Build once more elsewhere, and compare.")
    parser.add_argument("targets", nargs="*", help="what make is told; what dist has, if left out")
    options = parser.parse_args(words)
    if not found_in(DIST):
        print(f"{DIST} has nothing to compare: say make dist first", file=sys.stderr)
        return 1
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
