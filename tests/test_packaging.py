"""The packages that pip installs with ours: all that the Go programs can do, and nothing extra."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> set[str]:
    """Return the names of packages, without their versions."""
    return {re.split("[^a-z0-9-]", requirement, maxsplit=1)[0] for requirement in requirements}


@pytest.mark.parametrize(
    "package", ["acme", "josepy", "google-re2", "python-socks", "watchfiles", "bcrypt"]
)
def test_users_files_acme_and_proxies_need_no_extra(package: str) -> None:
    assert package in names(PROJECT["dependencies"])


@pytest.mark.parametrize("extra", ["acme", "authfile", "proxy"])
def test_an_old_command_with_an_extra_still_installs(extra: str) -> None:
    assert PROJECT["optional-dependencies"][extra] == []


def test_the_versions_of_python_are_those_that_the_readme_says_were_tried() -> None:
    versions = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert PROJECT["requires-python"] == f">={versions[0]}"
    readme = (Path(__file__).parents[1] / "README.rst").read_text()
    found = re.search(r"pass with CPython ([\d.,\sand]+), without", readme)
    assert found
    assert re.findall(r"(3\.\d+)\.\d+", found[1]) == versions


def test_the_top_level_has_the_agreed_files_and_no_others() -> None:
    root = Path(__file__).parents[1]
    if shutil.which("git") is None or not (root / ".git").exists():
        pytest.skip("this is no clone, or there is no git")
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip(f"git does not list the files: {listed.stderr.strip()}")
    names = {line.partition("/")[0] for line in listed.stdout.splitlines()}
    assert {name for name in names if not name.startswith(".")} == {
        *("LICENSE", "Makefile", "README.rst", "pyproject.toml"),
        *("bench", "cotun_trio", "scripts", "tests"),
    }
