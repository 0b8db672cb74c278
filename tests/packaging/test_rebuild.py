"""How two builds are compared, and what an audit makes of answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.packaging import audit, rebuild
from scripts.packaging.reproducible import sha256

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_each_file_that_is_missing_or_differs_is_told(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for directory, contents in (
        (here, {"same": "x", "changed": "x", "gone": "x"}),
        (there, {"same": "x", "changed": "y", "new": "x"}),
    ):
        directory.mkdir()
        for name, text in contents.items():
            (directory / name).write_text(text)
    mine, other = sha256(here / "changed"), sha256(there / "changed")
    assert rebuild.differences(here, there) == [
        f"changed has other bytes elsewhere: {mine} here, {other} there",
        "gone has not been built elsewhere",
        f"new is not in {here}",
    ]
    (there / "gone").write_text("x")
    (there / "same").unlink()
    assert [line.split()[0] for line in rebuild.differences(here, there, partly=True)] == [
        *("changed", "new")
    ]
    assert rebuild.differences(here, here) == []


def test_only_what_is_there_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rebuild, "DIST", tmp_path)
    assert rebuild.main([]) == 1
    assert capsys.readouterr().err == f"{tmp_path} has nothing to compare: say make dist first\n"
    for name in ("cotun_trio-1.0.0-py3-none-any.whl", "cotun-trio-1.0.0-arm64.oci.tar"):
        (tmp_path / name).touch()
        (tmp_path / f"{name}.cdx.json").touch()
    assert rebuild.found_in(tmp_path) == ["image ARCH=arm64", "dist"]


def test_what_a_service_does_not_know_is_a_problem() -> None:
    answer = [
        {"name": "one", "version": "1", "vulns": []},
        {"name": "two", "skip_reason": "Dependency not found"},
        {"name": "three", "version": "3", "vulns": [{"id": "X-1", "fix_versions": []}]},
    ]
    assert list(audit.problems(answer)) == [
        "the service knows nothing about: two",
        "three 3: X-1; fixed in no version yet",
    ]
    assert not list(audit.problems(answer[:1]))
