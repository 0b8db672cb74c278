"""Make a release: ``make release VERSION=0.2.0``, with ``ARGS=--dry-run`` only the checks.

The tree has to be clean and on main, and README's "Changes" have to say what is new.  Then

* the version goes into pyproject.toml, and into the names of packages in README, where the heading
  "Not released yet" becomes the version with today's date;
* ``make audit``, ``make check`` and ``make test`` run; ``ARGS=--no-audit`` leaves out the first one
  where no service can be asked;
* both files are committed;
* ``make image``, for both architectures, ``make packages`` and ``make dist`` make all that is
  published, from nothing, and ``make rebuild`` does so once more elsewhere, which has to give the
  same bytes;
* there is a tag, with the hashes of all that.

Where one of them fails, the branch and both files are as they were.  Nothing is pushed or uploaded:
the last lines say how to do that.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.packaging.rebuild import ALL
from scripts.packaging.reproducible import sha256

if TYPE_CHECKING:
    from collections.abc import Sequence

BRANCH = "main"
AUDIT = "audit"
BEFORE = (AUDIT, "check", "test")
"""What has to pass before the commit."""
AFTER = (*ALL, "rebuild")
"""What is made from it."""
DIST = Path("dist")
PROJECT = Path("pyproject.toml")
README = Path("README.rst")
UNRELEASED = "Not released yet"
_CHANGES = "\nChanges\n-------\n"
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_NAMED = re.compile(r"\b(cotun-trio[ :_-])\d+\.\d+\.\d+(?!\d)")
"""The name of something that is installed, with its version."""
_LINE = re.compile(r'^version = "([^"]*)"$', re.MULTILINE)
_UNRELEASED = re.compile(
    rf"^{UNRELEASED}\n~+\n(?P<new>.*?)(?=^[^\n]+\n~+\n|\Z)", re.MULTILINE | re.DOTALL
)


def git(*words: str) -> str:
    """Return what git prints."""
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout


def make(words: str) -> None:
    """Make what `words` say, with nothing of what the make around this was told."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    subprocess.run(["make", *words.split()], check=True, env=env)


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
    return [*found, *problems_of_changes(version)]


def problems_of_changes(version: str) -> list[str]:
    """Return what README's changes lack."""
    text = README.read_text(encoding="utf-8")
    new = _UNRELEASED.search(text.partition(_CHANGES)[2])
    if new is None:
        if is_in_changes(version):
            return []
        return [
            f"README's Changes have neither the heading '{UNRELEASED}' nor '{version} (YYYY-MM-DD)'"
        ]
    if re.search(rf"^{re.escape(version)}\b.*\n~+$", text, re.MULTILINE):
        return [f"README's Changes have the heading '{UNRELEASED}' beside one for {version}"]
    if not new["new"].strip():
        return [f"README's Changes have nothing under '{UNRELEASED}'"]
    return []


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def current_version() -> str:
    """Return the version of the project."""
    found = _LINE.search(PROJECT.read_text(encoding="utf-8"))
    assert found, f"no version in {PROJECT}"
    return found[1]


def is_in_changes(version: str) -> bool:
    """Return whether the README has a heading for `version`, with a date, among the changes."""
    changes = README.read_text(encoding="utf-8").partition(_CHANGES)[2]
    found = re.search(rf"^{re.escape(version)} \(([0-9-]+)\)\n~+$", changes, re.MULTILINE)
    try:
        return bool(found and dt.date.fromisoformat(found[1]))
    except ValueError:
        return False


def dated(readme: str, version: str, day: dt.date) -> str:
    """Return the README in which what was not released yet is that version's.

    What is installed has that version, too: ``cotun-trio:0.2.0``, ``cotun-trio_0.2.0_amd64.deb``.
    """
    head, changes, rest = readme.partition(_CHANGES)
    head = _NAMED.sub(rf"\g<1>{version}", head)
    heading = f"{version} ({day.isoformat()})"
    with_line = f"{heading}\n{'~' * len(heading)}\n"
    return (
        head
        + changes
        + re.sub(rf"^{UNRELEASED}\n~+\n", with_line, rest, count=1, flags=re.MULTILINE)
    )


def release(version: str, *, audit: bool = True) -> None:
    """Set the version, check, commit, make everything and tag.  Raises `CalledProcessError`."""
    before = git("rev-parse", "HEAD").strip()
    texts = {path: path.read_text(encoding="utf-8") for path in (PROJECT, README)}
    day = dt.datetime.now(dt.UTC).date()
    try:
        project = _LINE.sub(f'version = "{version}"', texts[PROJECT], count=1)
        PROJECT.write_text(project, encoding="utf-8")
        README.write_text(dated(texts[README], version, day), encoding="utf-8")
        for step in BEFORE:
            if audit or step != AUDIT:
                make(step)
        if git("status", "--porcelain"):
            git("commit", "--quiet", f"--message=Version {version}", "--", *map(str, texts))
        shutil.rmtree(DIST, ignore_errors=True)
        for step in AFTER:
            make(step)
        message = f"Version {version}\n\n{hashes()}"
        git("tag", "--annotate", "--cleanup=verbatim", f"--message={message}", f"v{version}")
    except BaseException:
        git("reset", "--quiet", before)
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
        raise


def hashes() -> str:
    """Return the hashes of all that has been made, as ``sha256sum`` writes and checks them."""
    return "".join(f"{sha256(path)}  {path.name}\n" for path in sorted(DIST.iterdir()))


def main(words: Sequence[str] | None = None) -> int:
    """Return the exit status."""
    usage = "make release VERSION=x.y.z [ARGS='--dry-run --no-audit']"
    parser = argparse.ArgumentParser(usage=usage, description="Make a release.")
    parser.add_argument("version", metavar="VERSION")
    parser.add_argument("--dry-run", action="store_true", help="check, and change nothing")
    parser.add_argument(
        "--no-audit", action="store_true", help="do not ask for known vulnerabilities"
    )
    options = parser.parse_args(words)
    version: str = options.version
    if found := problems(version):
        print(f"{version} cannot be released:", *found, sep="\n  ", file=sys.stderr)
        return 1
    if options.dry_run:
        print(f"{version} could be released.")
        return 0
    try:
        release(version, audit=not options.no_audit)
    except subprocess.CalledProcessError as error:
        print(f"{version} is not released: {' '.join(error.cmd)} failed", file=sys.stderr)
        return 1
    print(
        f"{version} is committed and tagged here, and all its files are in dist.  To publish it:",
        f"git push --atomic origin {BRANCH} v{version}",
        f"gh release create v{version} --verify-tag --notes-from-tag dist/*",
        sep="\n  ",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
