"""What the README shows is what happens, what it names is there, and what there is has a name."""

from __future__ import annotations

import ast
import contextlib
import doctest
import functools
import importlib
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

import cotun_trio
from cotun_trio import protocol, testing, units
from cotun_trio.access.credentials import Credentials
from cotun_trio.client.client import Client
from cotun_trio.errors import AuthenticationFailed
from cotun_trio.logs.context import set_process
from cotun_trio.logs.formats import make_formatter
from cotun_trio.settings import ServerSettings, Timings
from cotun_trio.units import parse_duration
from tests.support.log_watch import restored_logging, watch_logs
from tests.support.targets import LOOPBACK
from tests.support.tunnel import client_settings, running_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROOT = Path(__file__).parents[1]
README = ROOT / "README.rst"


@pytest.mark.slow
def test_the_readme_shows_what_happens() -> None:
    failed, tried = doctest.testfile(str(README), module_relative=False)
    assert tried > 6
    assert not failed


@pytest.mark.parametrize("module", [testing, units])
def test_a_module_shows_what_happens(module: object) -> None:
    failed, tried = doctest.testmod(module)  # type: ignore[arg-type]
    assert tried
    assert not failed


def test_the_readme_has_every_variable_with_its_default() -> None:
    text = README.read_text()
    for field in attrs.fields(Timings):
        name = f"COTUN_{field.name.upper()}"
        found = re.search(rf"^``{name}`` +(\S+(?: GiB)?)", text, re.MULTILINE)
        assert found, name
        if field.type == "float":
            assert parse_duration(found[1]) == field.default, name


def test_the_readme_has_every_limit_with_its_default() -> None:
    text = README.read_text()
    limits = {f.name: f.default for f in attrs.fields(ServerSettings) if f.name.startswith("max_")}
    for name, default in limits.items():
        option = "--" + name.replace("_", "-")
        found = re.search(rf"^``{option}`` +([0-9,]+)", text, re.MULTILINE)
        assert found, option
        assert int(found[1].replace(",", "")) == default


def test_the_package_has_few_names_and_each_can_be_imported() -> None:
    assert len(cotun_trio.__all__) <= 16
    for name in cotun_trio.__all__:
        assert getattr(cotun_trio, name)
    with pytest.raises(AttributeError, match="no attribute 'open_sesame'"):
        cotun_trio.open_sesame  # noqa: B018


# ---- what is for those who work on it


def resolve(name: str) -> object:
    """Return the module, or what is in one, that a dotted name names."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        with contextlib.suppress(ModuleNotFoundError):
            found: object = importlib.import_module(".".join(parts[:end]))
            return functools.reduce(getattr, parts[end:], found)
    raise AssertionError(name)


def test_a_reader_can_open_every_name_in_the_readme() -> None:
    names = set(re.findall(r"``((?:cotun_trio|tests)\.[\w.]+)``", README.read_text()))
    assert len(names) > 30
    for name in names:
        assert resolve(name) is not None


def test_every_file_that_the_readme_names_exists() -> None:
    pattern = r"``((?:cotun_trio|tests|bench|scripts)/[\w/.@-]*|\.ci/run|pyproject\.toml)[^`]*``"
    paths = set(re.findall(pattern, README.read_text()))
    assert len(paths) > 25
    missing = {path for path in paths if not (ROOT / path).exists()}
    assert not missing


def test_every_make_target_of_the_readme_exists_and_the_other_way_round() -> None:
    found = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found
    targets = set(found[1].split())
    named = re.findall(r"(?:``|^    )make\s+([a-z-]+)", README.read_text(), re.MULTILINE)
    assert set(named) == targets


def floors(text: str, name: str, beginning: str) -> list[set[str]]:
    """Return the `name`s on each floor; a floor has lines, the first with a `beginning`."""
    found: list[set[str]] = []
    for line in text.split("\n"):
        if re.match(beginning, line):
            found.append(set())
        if found:
            found[-1].update(re.findall(name, line))
    return found


def test_the_plan_in_the_readme_is_the_contract_of_imports() -> None:
    contract = (ROOT / "pyproject.toml").read_text().partition("\nlayers = [")[2].partition("]")[0]
    table = README.read_text().partition("\nFloor  ")[2].partition("\nSix nouns")[0]
    plan = floors(contract, r'\w+(?=[\w |]*")', " *#")
    assert len(plan) == 7
    assert floors(table, r"``(\w+)``", "The ") == plan


def examples_of_tests() -> dict[str, Callable[[], Awaitable[None]]]:
    """Return the tests that the README shows, by their names."""
    found: dict[str, Any] = {}
    text = README.read_text().partition("\nRules for tests\n")[2].partition("\nTo add an option")[0]
    for block in re.findall(r"::\n((?:\n|    .*\n)+)", text):
        exec(textwrap.dedent(block), found)
    return {name: value for name, value in found.items() if name.startswith("test_")}


EXAMPLES = examples_of_tests()


@pytest.mark.parametrize("name", EXAMPLES)
async def test_the_tests_that_the_readme_shows_pass(name: str) -> None:
    await EXAMPLES[name]()


def test_the_readme_shows_two_tests() -> None:
    assert len(EXAMPLES) == 2


PACKAGES = sorted((ROOT / "cotun_trio").glob("*/__init__.py"))


@pytest.mark.parametrize("page", PACKAGES, ids=[path.parent.name for path in PACKAGES])
def test_the_docstring_of_a_package_names_all_of_its_modules(page: Path) -> None:
    docstring = ast.get_docstring(ast.parse(page.read_text())) or ""
    modules = {path.stem for path in page.parent.glob("*.py") if not path.stem.startswith("_")}
    assert modules <= set(re.findall(r"`(\w+)`", docstring))


def test_the_readme_and_the_page_of_the_wire_protocol_are_sound_restructuredtext() -> None:
    core = pytest.importorskip("docutils.core")
    for text in (README.read_text(), protocol.__doc__):
        settings = {"report_level": 1, "halt_level": 1, "syntax_highlight": "none"}
        core.publish_string(text, settings_overrides=settings)


@pytest.mark.parametrize("process", [{}, {"worker": 3}], ids=str)
async def test_the_filter_that_the_readme_gives_to_fail2ban_finds_a_failed_login(
    process: dict[str, object],
) -> None:
    found = re.search(r"^    failregex = (.*)$", README.read_text(), re.MULTILINE)
    assert found
    # It cuts the date off, and knows what an address is.
    pattern = re.compile(found[1].replace("<HOST>", r"(?P<host>[0-9.]+)"))
    with restored_logging():
        set_process(process)
        async with watch_logs() as log, running_server(auth=Credentials("u", "right")) as server:
            settings = client_settings(server.addresses[0], auth=Credentials("u", "wrong"))
            with pytest.raises(AuthenticationFailed):
                await Client(settings).run()
    formatter = make_formatter(None, {}, json_lines=False)
    in_a_file = [formatter.format(each)[len("2026-11-29 12:00:00") :] for each in log.records]
    in_the_journal = [
        f" host cotun-trio[7]: {line.partition(' ')[2].partition(' ')[2]}" for line in in_a_file
    ]
    for lines in (in_a_file, in_the_journal):
        hits = [hit for line in lines if (hit := pattern.search(line))]
        assert [hit["host"] for hit in hits] == [LOOPBACK]
