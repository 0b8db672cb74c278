"""``make release``: what it refuses, what it does, and that it publishes nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from scripts import release
from tests.support.peers import needs

pytestmark = needs("git", "make")

PROJECT = 'name = "x"\nversion = "0.1.0"\nother = "0.1.0"\n'
README = """
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
check test dist:
\t@echo $@ $(ARGS) >> ../made
\t@test $@ != "$$BROKEN"
"""


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
    git("add", ".")
    git("commit", "--quiet", "--message=All")
    git("remote", "add", "origin", str(bare))
    return bare


def made() -> list[str]:
    """Return what has been made."""
    path = Path("../made")
    return path.read_text().splitlines() if path.exists() else []


def test_a_release_is_a_commit_and_a_tag_with_the_version(
    origin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release.main(["0.2.0"]) == 0
    assert made() == ["check", "test", "dist"]
    assert Path("pyproject.toml").read_text() == PROJECT.replace("0.1.0", "0.2.0", 1)
    assert git("log", "--format=%s").splitlines() == ["Version 0.2.0", "All"]
    assert git("describe", "--exact-match").strip() == "v0.2.0"
    assert not git("status", "--porcelain")
    assert "git push --atomic origin main v0.2.0" in capsys.readouterr().out
    assert not git("ls-remote", str(origin))


def test_a_dry_run_changes_nothing() -> None:
    assert release.main(["0.2.0", "--dry-run"]) == 0
    assert not made()
    assert not git("tag")
    assert not git("status", "--porcelain")


def test_what_make_around_it_was_told_is_not_for_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKEFLAGS", " -- ARGS=x VERSION=0.2.0")
    assert release.main(["0.2.0"]) == 0
    assert made() == ["check", "test", "dist"]


@pytest.mark.parametrize("step", release.STEPS)
def test_a_step_that_fails_leaves_everything_as_it_was(
    step: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BROKEN", step)
    assert release.main(["0.2.0"]) == 1
    assert made()[-1] == step
    assert f"make {step} failed" in capsys.readouterr().err
    assert Path("pyproject.toml").read_text() == PROJECT
    assert not git("tag")
    assert git("log", "--format=%s").splitlines() == ["All"]


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("0.2", "is not a version"),
        ("v0.2.0", "is not a version"),
        ("0.2.0rc1", "is not a version"),
        ("0.0.9", "comes before 0.1.0"),
        ("0.5.0", "no heading '0.5.0 (YYYY-MM-DD)'"),
        ("0.3.0", "no heading"),  # without a date
        ("0.4.0", "no heading"),  # with a date that no calendar has
    ],
)
def test_a_version_that_makes_no_sense_is_refused(
    version: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release.main([version]) == 1
    assert reason in capsys.readouterr().err
    assert not made()


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
