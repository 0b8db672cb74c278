"""Make a release: ``make release VERSION=0.2.0``, with ``ARGS=--dry-run`` only the checks.

The tree has to be clean and on main, and README's "Changes" has to have the version with a date.
Then the version goes into pyproject.toml; ``make check``, ``make test`` and ``make dist`` run; and
there is a commit and a tag.  Where one of the three fails, pyproject.toml is as it was.  Nothing is
pushed or uploaded: the last lines say how to do that.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

BRANCH = "main"
STEPS = ("check", "test", "dist")
PROJECT = Path("pyproject.toml")
README = Path("README.rst")
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_LINE = re.compile(r'^version = "([^"]*)"$', re.MULTILINE)


def git(*words: str) -> str:
    """Return what git prints."""
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout


def make(target: str) -> None:
    """Make a target, with nothing of what the make around this was told."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    subprocess.run(["make", target], check=True, env=env)


def problems(version: str) -> list[str]:
    """Return why `version` cannot be released from here, a line each."""
    if not _VERSION.fullmatch(version):
        return [f"'{version}' is not a version: write it like 0.2.0"]
    found = []
    if git("status", "--porcelain"):
        found.append("the tree is not clean: commit or remove what git status shows")
    if (branch := git("branch", "--show-current").strip()) != BRANCH:
        found.append(f"this is not the branch {BRANCH} but '{branch}'")
    if git("tag", "--list", f"v{version}"):
        found.append(f"there is a tag v{version} already")
    if _numbers(version) < _numbers(before := current_version()):
        found.append(f"{version} comes before {before}, which pyproject.toml has")
    if not is_in_changes(version):
        found.append(f"README's Changes have no heading '{version} (YYYY-MM-DD)'")
    return found


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def current_version() -> str:
    """Return the version of the project."""
    found = _LINE.search(PROJECT.read_text())
    assert found, f"no version in {PROJECT}"
    return found[1]


def is_in_changes(version: str) -> bool:
    """Return whether the README has a heading for `version`, with a date, among the changes."""
    changes = README.read_text().partition("\nChanges\n-------\n")[2]
    found = re.search(rf"^{re.escape(version)} \(([0-9-]+)\)\n~+$", changes, re.MULTILINE)
    try:
        return bool(found and dt.date.fromisoformat(found[1]))
    except ValueError:
        return False


def release(version: str) -> None:
    """Set the version, make everything, commit and tag.  Raises `CalledProcessError`."""
    text = PROJECT.read_text()
    try:
        PROJECT.write_text(_LINE.sub(f'version = "{version}"', text, count=1))
        for step in STEPS:
            make(step)
        if git("status", "--porcelain"):
            git("commit", "--quiet", f"--message=Version {version}", "--", str(PROJECT))
    except BaseException:
        PROJECT.write_text(text)
        raise
    git("tag", "--annotate", f"--message=Version {version}", f"v{version}")


def main(words: Sequence[str] | None = None) -> int:
    """Return the exit status."""
    usage = "make release VERSION=x.y.z [ARGS=--dry-run]"
    parser = argparse.ArgumentParser(usage=usage, description="Make a release.")
    parser.add_argument("version", metavar="VERSION")
    parser.add_argument("--dry-run", action="store_true", help="check, and change nothing")
    options = parser.parse_args(words)
    version: str = options.version
    if found := problems(version):
        print(f"{version} cannot be released:", *found, sep="\n  ", file=sys.stderr)
        return 1
    if options.dry_run:
        print(f"{version} could be released.")
        return 0
    try:
        release(version)
    except subprocess.CalledProcessError as error:
        print(f"{version} is not released: {' '.join(error.cmd)} failed", file=sys.stderr)
        return 1
    print(
        f"{version} is committed and tagged here, and its packages are in dist.  To publish it:",
        f"git push --atomic origin {BRANCH} v{version}",
        "python3 -m twine upload dist/*.whl dist/*.tar.gz",
        sep="\n  ",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
