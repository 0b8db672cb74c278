"""The workflow that publishes a tag: GitHub's schema, and what its steps do."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from scripts.packaging.reproducible import ROOT
from tests.support.peers import needs

if TYPE_CHECKING:
    from pathlib import Path

WORKFLOW = ROOT / ".github" / "workflows" / "publish.yml"
TAG = "v0.2.0"
NAMES = ("x-0.2.0-py3-none-any.whl", "x-0.2.0.tar.gz", "x.pyz")


def jobs() -> dict[str, Any]:
    """Return what the workflow does."""
    found: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    return found


@pytest.mark.slow
def test_it_is_a_workflow() -> None:
    words = ("--builtin-schema", "vendor.github-workflows", str(WORKFLOW))
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_the_job_that_uploads_can_ask_for_a_token_and_it_runs_nothing_of_ours() -> None:
    rights = {name: job["permissions"] for name, job in jobs().items()}
    assert rights == {"build": {"contents": "read"}, "publish": {"id-token": "write"}}
    assert all("run" not in step for step in jobs()["publish"]["steps"])


def git(*words: str, cwd: Path) -> None:
    who = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.com")
    subprocess.run(["git", *who, *words], check=True, cwd=cwd)


@needs("git", "bash")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "status"), [(None, 0), ("other bytes", 1), ("another file", 1), ("no hashes", 1)]
)
def test_only_bytes_whose_hashes_the_tag_has_are_published(
    change: str | None, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    origin, tree = tmp_path / "origin", tmp_path / "tree"
    git("init", "--quiet", "--initial-branch=main", str(origin), cwd=tmp_path)
    git("commit", "--quiet", "--allow-empty", "--message=All", cwd=origin)
    git("clone", "--quiet", str(origin), str(tree), cwd=tmp_path)
    git("tag", TAG, cwd=tree)  # as GitHub's checkout has it
    dist = tree / "dist"
    dist.mkdir()
    (tree / "build").mkdir()
    for name in NAMES:
        (dist / name).write_text(name)
    sums = subprocess.run(
        ["sha256sum", *NAMES], cwd=dist, capture_output=True, text=True, check=True
    ).stdout
    body = "" if change == "no hashes" else sums
    message = f"--message=Version 0.2.0\n\n{body}"
    git("tag", "--annotate", "--cleanup=verbatim", message, TAG, cwd=origin)
    match change:
        case "other bytes":
            (dist / NAMES[0]).write_text("!")
        case "another file":
            (dist / "y-0.2.0.tar.gz").write_text("!")
        case _:
            (dist / "x.pyz").unlink()  # it is not for the index, and need not be there
    (step,) = [step for step in jobs()["build"]["steps"] if "hashes" in step.get("name", "")]
    assert step["shell"] == "bash"  # which stops at the first error of a pipe, too
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=tree,
        env={**os.environ, "GITHUB_REF_NAME": TAG},
        capture_output=True,
        text=True,
    )
    assert bool(done.returncode) == bool(status), done.stdout + done.stderr
