"""What is told about artefacts; what is told of packages is in test_environment.py."""

from __future__ import annotations

import json
from importlib.metadata import PathDistribution
from typing import TYPE_CHECKING

import pytest

from scripts.packaging import sbom

if TYPE_CHECKING:
    from pathlib import Path


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
    folder = tmp_path / "x-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: x\nVersion: 1\n{about}")
    assert sbom.licence_of(PathDistribution(folder).metadata) == licence


def test_another_artefact_has_another_number(tmp_path: Path) -> None:
    numbers = set()
    for name, content in (("a", b"x"), ("b", b"x"), ("a", b"y")):
        (tmp_path / name).write_bytes(content)
        numbers.add(json.loads(sbom.write(tmp_path / name).read_text())["serialNumber"])
    assert len(numbers) == 3
