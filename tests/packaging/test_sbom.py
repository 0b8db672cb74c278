"""What is told about artefacts; what is told of packages is in test_environment.py."""

from __future__ import annotations

import json
from importlib.metadata import PathDistribution
from typing import TYPE_CHECKING

import pytest

from scripts.packaging import sbom

if TYPE_CHECKING:
    from importlib.metadata import PackageMetadata
    from pathlib import Path


def read(about: str, directory: Path) -> PackageMetadata:
    """Return what a package says about itself."""
    folder = directory / "x-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: x\nVersion: 1\n{about}")
    return PathDistribution(folder).metadata


@pytest.mark.parametrize(
    ("about", "licence"),
    [
        ("License-Expression: MIT OR Apache-2.0\nLicense: x\n", "MIT OR Apache-2.0"),
        ("License: Apache-2.0\nClassifier: License :: OSI Approved :: BSD License\n", "Apache-2.0"),
        ("License: A\n        text\nClassifier: License :: OSI Approved :: MIT License\n", "MIT"),
        ("Classifier: License :: OSI Approved :: BSD License\n", "BSD License"),
        ("", None),
    ],
)
def test_a_licence_is_what_the_package_says_best(
    about: str, licence: str | None, tmp_path: Path
) -> None:
    assert sbom.licence_of(read(about, tmp_path)) == licence


@pytest.mark.parametrize(
    ("about", "makers"),
    [
        ("Author: One Maker\nMaintainer: Another\n", "One Maker"),
        ('Author-email: "Jürgen, J." <j@example.com>, Two <t@example.com>\n', "Jürgen, J., Two"),
        ("Author-email: <j@example.com>\nMaintainer: Some\n People\n", "Some People"),
        ("", ""),
    ],
)
def test_the_makers_of_a_package_are_told_without_their_addresses(
    about: str, makers: str, tmp_path: Path
) -> None:
    assert sbom.makers_of(read(about, tmp_path)) == makers


def test_another_artefact_has_another_number(tmp_path: Path) -> None:
    numbers = set()
    for name, content in (("a", b"x"), ("b", b"x"), ("a", b"y")):
        (tmp_path / name).write_bytes(content)
        numbers.add(json.loads(sbom.write(tmp_path / name).read_text())["serialNumber"])
    assert len(numbers) == 3
