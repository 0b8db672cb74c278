"""Packing: what comes out depends on names and contents, and on the one time."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from scripts.packaging import reproducible
from tests.support.peers import needs

if TYPE_CHECKING:
    from pathlib import Path

TIME = 1_700_000_000


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the environment say the time."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(TIME))


def fill(root: Path, names: list[str], *, umask: int, time: int) -> Path:
    """Make a tree in which the files come in the order of `names`."""
    before = os.umask(umask)
    try:
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
            path.chmod((0o777 if name.endswith(".sh") else 0o666) & ~umask)
            os.utime(path, (time, time))
    finally:
        os.umask(before)
    (root / "link").symlink_to("a/one")
    return root


@pytest.fixture
def trees(tmp_path: Path) -> list[Path]:
    """Give two trees with the same contents."""
    names = ["b.sh", "a/one", "a/b/two", "a.txt"]
    first = fill(tmp_path / "first", names, umask=0o022, time=TIME - 5)
    second = fill(tmp_path / "second", names[::-1], umask=0o077, time=TIME + 5)
    (first / "a" / "same").hardlink_to(first / "a" / "one")
    (second / "a" / "same").write_text("a/one")
    return [first, second]


def test_the_same_contents_are_the_same_tar(trees: list[Path]) -> None:
    files = [io.BytesIO(), io.BytesIO()]
    for file, tree in zip(files, trees, strict=True):
        reproducible.write_tar(file, tree)
    assert files[0].getvalue() == files[1].getvalue()
    files[0].seek(0)
    with tarfile.open(fileobj=files[0], mode="r:") as tar:
        entries = tar.getmembers()
        assert [entry.name for entry in entries] == [
            "a",
            "a/b",
            "a/b/two",
            "a/one",
            "a/same",
            "a.txt",
            "b.sh",
            "link",
        ]
        assert [oct(entry.mode) for entry in entries] == [
            *("0o755", "0o755", "0o644", "0o644", "0o644", "0o644", "0o755", "0o777")
        ]
        assert {(entry.uid, entry.gid, entry.uname, entry.mtime) for entry in entries} == {
            (0, 0, "", TIME)
        }
        same = tar.extractfile("a/same")
        assert same
        assert same.read() == b"a/one"
        assert tar.getmember("link").linkname == "a/one"


def test_modes_can_be_told_by_name(trees: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    reproducible.write_tar(path, trees[0], modes={"a": 0o750, "b.sh": 0o4755})
    with tarfile.open(path) as tar:
        told = {entry.name: (entry.mode, entry.uid, entry.gid) for entry in tar}
    assert told["a"] == (0o750, 0, 0)
    assert told["b.sh"] == (0o4755, 0, 0)
    assert told["a/one"] == (0o644, 0, 0)


def test_a_settled_tree_has_fixed_modes_and_times(trees: list[Path]) -> None:
    seen = []
    for tree in trees:
        reproducible.settle(tree)
        all_of_it = [tree, *reproducible.walk(tree)]
        stats = [path.lstat() for path in all_of_it]
        names = [str(path.relative_to(tree)) for path in all_of_it]
        seen.append([(n, s.st_mode, s.st_mtime) for n, s in zip(names, stats, strict=True)])
    assert seen[0] == seen[1]
    assert {time for _, _, time in seen[0]} == {TIME}


def test_the_time_is_the_one_of_the_environment_but_not_before_zip_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert reproducible.epoch() == TIME
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    assert reproducible.epoch() == 315532800  # 1980


@needs("git")
def test_the_time_is_that_of_the_last_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    monkeypatch.setattr(reproducible, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    os.utime(tmp_path / "pyproject.toml", (TIME + 9, TIME + 9))
    assert reproducible.epoch() == TIME + 9  # there is no repository
    who = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.com")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-q", "-m", "All")):
        when = {"GIT_COMMITTER_DATE": f"{TIME + 3} +0100", "GIT_CONFIG_GLOBAL": "/dev/null"}
        env = {**os.environ, **when}
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, env=env)
    assert reproducible.epoch() == TIME + 3


def test_what_builds_is_told_the_time_and_no_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_TIME", "de_DE.UTF-8")
    told = reproducible.environment()
    assert told["SOURCE_DATE_EPOCH"] == str(TIME)
    assert told["LC_ALL"] == "C.UTF-8"
    assert "LC_TIME" not in told


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("wrong\n", "wrong\nmake x failed"),
        (b"wrong", "wrong\nmake x failed"),
        (None, "make x failed"),
    ],
)
def test_the_failure_of_a_program_has_what_it_printed(
    output: str | bytes | None, said: str
) -> None:
    error = subprocess.CalledProcessError(1, ["make", "x"], output)
    assert reproducible.failure(error) == said
