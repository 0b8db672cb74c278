"""``make release``: what it refuses, what it does, and that it publishes nothing."""

from __future__ import annotations

import datetime as dt
import os
import re
import subprocess
from pathlib import Path

import pytest

from scripts import release
from tests.support.peers import needs

pytestmark = needs("git", "make")

ROOT = Path(__file__).parents[1]
PROJECT = 'name = "x"\nversion = "0.1.0"\nother = "0.1.0"\n'
README = """
Install
-------

It prints ``cotun-trio 0.2.0``.  With Python 3.11.7::

    docker run cotun-trio:0.2.0
    apt install ./dist/cotun-trio_0.2.0_amd64.deb ./dist/cotun-trio-0.2.0-1.x86_64.rpm

Changes
-------

0.2.0 (2026-12-24)
~~~~~~~~~~~~~~~~~~

* All of it.

0.3.0
~~~~~

0.4.0 (2026-12-32)
~~~~~~~~~~~~~~~~~~

0.1.0 (2026-11-25)
~~~~~~~~~~~~~~~~~~
"""
MAKEFILE = """
ARGS =
ARCH =
audit check test image packages dist rebuild:
\t@echo $@ $(ARCH) $(ARGS) >> ../made
\t@test $@ != "$$BROKEN"
\t@if [ $@ = dist ]; then mkdir -p dist; git log --format=%s >dist/subjects; echo >dist/x.whl; fi
"""
STEPS = ["audit", "check", "test", "image", "packages", "dist", "rebuild"]
ALL = [*STEPS[:4], "image arm64", *STEPS[4:]]
NEW = re.sub("(cotun-trio.)0.2.0", r"\g<1>0.1.0", README).replace(
    "0.2.0 (2026-12-24)\n~~~~~~~~~~~~~~~~~~", "Not released yet\n~~~~~~~~~~~~~~~~"
)


def git(*words: str) -> str:
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture(autouse=True)
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a repository on main that can be released as 0.2.0; give where it is pushed to."""
    for name in list(os.environ):
        if name.startswith("GIT_"):  # a hook has some, which lead to its own repository
            monkeypatch.delenv(name)
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Somebody")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "somebody@example.com")
    tree, bare = tmp_path / "tree", tmp_path / "origin"
    git("init", "--quiet", "--bare", str(bare))
    git("init", "--quiet", "--initial-branch=main", str(tree))
    monkeypatch.chdir(tree)
    (tree / "pyproject.toml").write_text(PROJECT)
    (tree / "README.rst").write_text(README)
    (tree / "Makefile").write_text(MAKEFILE)
    (tree / ".gitignore").write_text("/dist/\n")
    git("add", ".")
    git("commit", "--quiet", "--message=All")
    git("remote", "add", "origin", str(bare))
    return bare


def made() -> list[str]:
    """Return what has been made."""
    path = Path("../made")
    return path.read_text().splitlines() if path.exists() else []


def write_changes(text: str) -> None:
    """Have the README committed with other changes."""
    Path("README.rst").write_text(text)
    git("commit", "--quiet", "--all", "--message=All")


def test_a_release_is_a_commit_and_a_tag_with_the_version(
    origin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release.main(["0.2.0"]) == 0
    assert made() == ALL
    assert Path("pyproject.toml").read_text() == PROJECT.replace("0.1.0", "0.2.0", 1)
    assert git("log", "--format=%s").splitlines() == ["Version 0.2.0", "All"]
    assert git("describe", "--exact-match").strip() == "v0.2.0"
    assert not git("status", "--porcelain")
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "  git push --atomic origin main v0.2.0",
        "  gh release create v0.2.0 --verify-tag --notes-from-tag dist/*",
    ]
    assert not git("ls-remote", str(origin))


def test_what_was_not_released_yet_gets_the_version_and_the_date_in_the_same_commit() -> None:
    write_changes(NEW)
    day = dt.datetime.now(dt.UTC).date()
    assert release.main(["0.2.0"]) == 0
    later = dt.datetime.now(dt.UTC).date()
    assert Path("README.rst").read_text() in {
        README.replace("2026-12-24", date.isoformat()) for date in (day, later)
    }
    names = git("show", "--format=", "--name-only", "HEAD").split()
    assert names == ["README.rst", "pyproject.toml"]


def test_packages_are_made_from_the_commit_and_from_nothing_else() -> None:
    Path("dist").mkdir()
    Path("dist/old.whl").touch()
    assert release.main(["0.2.0"]) == 0
    assert sorted(path.name for path in Path("dist").iterdir()) == ["subjects", "x.whl"]
    assert Path("dist/subjects").read_text().splitlines() == ["Version 0.2.0", "All"]


def test_the_tag_has_the_hashes_of_what_has_been_made() -> None:
    assert release.main(["0.2.0"]) == 0
    assert git("tag", "--list", "--format=%(contents:subject)").strip() == "Version 0.2.0"
    told = git("tag", "--list", "--format=%(contents:body)", "v0.2.0").strip()
    Path("sums").write_text(told)
    done = subprocess.run(["sha256sum", "--check", "--strict", "../sums"], cwd="dist", text=True)
    assert done.returncode == 0
    assert [line.split()[1] for line in told.splitlines()] == ["subjects", "x.whl"]


def test_a_release_without_an_audit_has_to_be_asked_for() -> None:
    assert release.main(["0.2.0", "--no-audit"]) == 0
    assert made() == [step for step in ALL if step != "audit"]


def test_a_dry_run_changes_nothing() -> None:
    assert release.main(["0.2.0", "--dry-run"]) == 0
    assert not made()
    assert not git("tag")
    assert not git("status", "--porcelain")


def test_what_make_around_it_was_told_is_not_for_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKEFLAGS", " -- ARGS=x VERSION=0.2.0")
    assert release.main(["0.2.0"]) == 0
    assert made() == ALL


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_fails_leaves_everything_as_it_was(
    step: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_changes(NEW)
    monkeypatch.setenv("BROKEN", step)
    assert release.main(["0.2.0"]) == 1
    assert made()[-1] == step
    assert f"make {step} failed" in capsys.readouterr().err
    assert Path("pyproject.toml").read_text() == PROJECT
    assert Path("README.rst").read_text() == NEW
    assert not git("tag")
    assert git("log", "--format=%s").splitlines() == ["All", "All"]
    assert not git("status", "--porcelain")


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("0.2", "is not a version"),
        ("v0.2.0", "is not a version"),
        ("0.2.0rc1", "is not a version"),
        ("0.0.9", "comes before 0.1.0"),
        ("0.5.0", "neither the heading 'Not released yet' nor '0.5.0 (YYYY-MM-DD)'"),
        ("0.3.0", "neither the heading"),  # without a date
        ("0.4.0", "neither the heading"),  # with a date that no calendar has
    ],
)
def test_a_version_that_makes_no_sense_is_refused(
    version: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release.main([version]) == 1
    assert reason in capsys.readouterr().err
    assert not made()


@pytest.mark.parametrize(
    ("readme", "reason"),
    [
        (NEW.replace("* All of it.\n", ""), "nothing under 'Not released yet'"),
        (NEW.replace("0.3.0\n~~~~~", "0.2.0\n~~~~~"), "'Not released yet' beside one for 0.2.0"),
    ],
)
def test_changes_that_make_no_sense_are_refused(
    readme: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_changes(readme)
    assert release.main(["0.2.0"]) == 1
    assert reason in capsys.readouterr().err
    assert not made()


def test_the_changes_in_our_readme_are_what_a_release_looks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    version = release.current_version()
    there = release.UNRELEASED in release.README.read_text()
    assert release.problems_of_changes("999.0.0" if there else version) == []


def test_a_release_is_refused_once_there_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    git("tag", "v0.2.0")
    assert release.main(["0.2.0"]) == 1
    assert "there is a tag v0.2.0" in capsys.readouterr().err


def test_a_tree_with_changes_and_another_branch_are_refused_together(
    capsys: pytest.CaptureFixture[str],
) -> None:
    git("switch", "--quiet", "--create", "other")
    Path("new").touch()
    assert release.main(["0.2.0"]) == 1
    said = capsys.readouterr().err
    assert "not clean" in said
    assert "'other'" in said
    assert not made()
