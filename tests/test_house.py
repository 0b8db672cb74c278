"""The plan of the house: each package says what is in its modules."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import cotun_trio

HOUSE = Path(cotun_trio.__file__).parent
PACKAGES = sorted(path.parent for path in HOUSE.glob("*/__init__.py"))
LINE = re.compile(r"^\* (`\w+`(?:, `\w+`)*): \S", re.MULTILINE)


def docstring(package: Path) -> str:
    return ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""


def test_there_are_packages() -> None:
    assert {"client", "server", "protocol"} <= {package.name for package in PACKAGES}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_package_names_all_of_its_modules_once_and_no_others(package: Path) -> None:
    named = [name for line in LINE.findall(docstring(package)) for name in re.findall(r"\w+", line)]
    modules = {path.stem for path in package.glob("*.py")} - {"__init__", "__main__"}
    assert sorted(named) == sorted(modules)
