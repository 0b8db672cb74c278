"""README's tables beside what there is: blocks and their tests, options, remotes, statuses."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import cotun_trio
import cotun_trio.cli  # the commands register themselves
from cotun_trio.cli.app import app
from cotun_trio.daemon import STATUSES
from cotun_trio.protocol.port_ranges import parse_remotes
from tests.support.peers import CHISEL_MISSING
from tests.support.programs import find_chisel
from tests.support.readme import blocks, rows, section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cyclopts import App

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

ELSEWHERE = {
    "cotun-trio": "a picture",
    "Working on it": "tests/test_readme.py: each target exists, and people run them",
    "Rules for tests": "tests/test_readme.py runs them",
    "To make a release": "tests/test_release.py",
    "As a library": "tests/test_readme.py runs them",
}
"""The sections whose literal blocks are no affair of the tests here, and why."""


def taken() -> Iterator[str]:
    """Yield the titles of the sections that tests here take; each looks at all of its blocks."""
    for path in HERE.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "section":
                (title,) = node.args
                assert isinstance(title, ast.Constant)
                yield title.value


def test_every_literal_block_of_the_readme_has_a_test() -> None:
    assert sorted(blocks()) == sorted({*taken(), *ELSEWHERE})
    for reason in ELSEWHERE.values():
        for path in re.findall(r"tests/\w+\.py", reason):
            assert (ROOT / path).exists()


# ---- options


def options_of(command: str) -> set[str]:
    """Return the options of a command, without those for help."""
    return options_of_app(app[command])


def options_of_app(node: App) -> set[str]:
    """Do the same for a command of cyclopts."""
    arguments = node.assemble_argument_collection(parse_docstring=False)
    names = {name for argument in arguments if argument.show for name in argument.names}
    negated = ("--no-", "--empty-")  # cyclopts makes them
    return {name for name in names if name.startswith("-") and not name.startswith(negated)}


@pytest.mark.parametrize("command", ["server", "client"])
def test_the_readme_has_all_options_in_their_groups(command: str) -> None:
    found: set[str] = set()
    table = None
    for group, options in rows("Options"):
        if group == "Group":
            table = options
        elif table == f"Options of {command}":
            found |= set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", options))
    assert found == options_of(command)


EVERYWHERE = {"--help", "--version"}


def test_every_option_that_the_readme_names_exists() -> None:
    text = (ROOT / "README.rst").read_text().partition("\nCompatibility\n")[0]
    ours = set().union(*map(options_of, ("server", "client", "doctor", "status", "bars", "events")))
    named = set(re.findall(r"``(--[a-z][a-z0-9-]+)", text))
    # pipx, docker and bench/run.sh have them.
    of_others = {"--force", "--floods", "--rows", "--plot", "--targets"}
    of_others |= {"--user", "--userns", "--network", "--publish", "--health-cmd"}
    assert len(named) > 50
    assert named <= ours | of_others | EVERYWHERE


def test_every_command_within_a_text_of_the_readme_exists_with_its_options() -> None:
    found = 0
    for text in re.findall(r"``([^`]+)``", (ROOT / "README.rst").read_text()):
        words = text.split()
        words = words[words[0] == "cotun-trio" :]
        if not words or words[0] not in app or words[0].startswith("-"):
            continue
        node = app[words[0]]
        if len(words) > 1 and not words[1].startswith("-") and words[1] in node:
            node = node[words[1]]
        if named := {word.partition("=")[0] for word in words if word.startswith("--")}:
            assert named <= options_of_app(node) | EVERYWHERE, text
        found += 1
    assert found > 30


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.skipif(find_chisel() is None, reason=CHISEL_MISSING)
@pytest.mark.parametrize("command", ["server", "client"])
def test_each_option_of_chisel_is_there_as_the_readme_says(command: str) -> None:
    done = subprocess.run(
        [str(find_chisel()), command, "--help"], capture_output=True, text=True, check=False
    )
    found = set(re.findall(r"^ +(--?[a-z0-9-]+)", done.stdout, re.MULTILINE))
    assert len(found) > 10
    assert found <= options_of(command) | EVERYWHERE


# ---- remotes, statuses


def test_every_remote_in_the_readme_is_one() -> None:
    found = [remote for remote, _meaning in rows("Remotes")]
    assert found[0] == "Remote"
    assert len(found) > 15
    for remote in found[1:]:
        assert parse_remotes([remote])


def test_the_form_of_remotes_is_that_of_the_help() -> None:
    with section("Remotes") as (form,):
        inner = form.text.removeprefix("[R:]").partition("[/udp]")[0]
    assert f"\n    {inner}\n" in str(app["client"].help_epilogue)


def test_the_packages_in_the_readme_have_the_version_of_the_project() -> None:
    text = (ROOT / "README.rst").read_text().partition("\nChanges\n-------\n")[0]
    found = re.findall(r"\bcotun-trio[ :_-](\d+\.\d+\.\d+)(?!\d)", text)
    assert len(found) > 4
    assert set(found) == {cotun_trio.__version__}


def test_the_readme_has_all_statuses() -> None:
    found = {int(status) for status, _meaning in rows("Exit statuses") if status.isdigit()}
    assert found == {0, 1, 2, *STATUSES.values()}
