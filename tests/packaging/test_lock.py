"""The locks: exact versions with hashes that pyproject.toml allows; nothing is fetched for that."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.packaging import lock
from scripts.packaging.reproducible import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ASKED = {
    lock.REQUIREMENTS: [
        *PROJECT["project"]["dependencies"],
        *(
            requirement
            for extra in lock.EXTRAS
            for requirement in PROJECT["project"]["optional-dependencies"][extra]
        ),
    ],
    lock.TOOLS: PROJECT["dependency-groups"]["packaging"],
}
each_lock = pytest.mark.parametrize("path", lock.LOCKS, ids=lambda path: path.name)


@each_lock
def test_a_lock_has_versions_that_the_project_allows(path: Path) -> None:
    pins = list(lock.pins(path))
    for requirement in map(Requirement, ASKED[path]):
        versions = [pin.version for pin in pins if pin.name == canonicalize_name(requirement.name)]
        assert versions, f"{requirement} is not in {path.name}: say make lock"
        for version in versions:
            assert requirement.specifier.contains(version), (
                f"{path.name} has {version} for {requirement}: say make lock"
            )


@each_lock
def test_each_line_of_a_lock_has_hashes(path: Path) -> None:
    for pin in lock.pins(path):
        assert pin.hashes, pin.name
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in pin.hashes), pin.name


@each_lock
def test_a_lock_says_how_it_was_made_and_no_place_to_fetch_from(path: Path) -> None:
    text = path.read_text()
    assert "#    make lock\n" in text.partition("==")[0]
    assert "//" not in text
    assert not re.search(r"^\s*-(?!-hash=)", text, re.MULTILINE)


def test_the_build_backend_of_the_lock_is_one_that_pip_would_take() -> None:
    (asked,) = map(Requirement, PROJECT["build-system"]["requires"])
    (version,) = [pin.version for pin in lock.pins(lock.TOOLS) if pin.name == "flit-core"]
    assert asked.specifier.contains(version)


def test_a_pin_is_for_the_versions_of_python_that_its_marker_names(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    old, new = "a" * 64, "b" * 64
    path.write_text(
        "# Made up\n"
        f"one==1.0 ; python_full_version < '3.12' \\\n    --hash=sha256:{old}\n    # via x\n"
        f"One.Two==2.0 \\\n    --hash=sha256:{old} \\\n    --hash=sha256:{new}\n"
    )
    one, two = lock.pins(path)
    assert (two.name, two.version, two.hashes) == ("one-two", "2.0", {old, new})
    assert str(one) == f"one==1.0 --hash=sha256:{old}"
    markers = {"python_full_version": "3.11.9", "python_version": "3.11"}
    assert one.is_for(markers)
    assert two.is_for(markers)
    assert not one.is_for({"python_full_version": "3.12.0", "python_version": "3.12"})
