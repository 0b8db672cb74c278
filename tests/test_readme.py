"""What the README shows of the library, and the documentation of modules, is what happens."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import attrs
import pytest

import cotun_trio
from cotun_trio import testing, units
from cotun_trio.settings import ServerSettings, Timings
from cotun_trio.units import parse_duration

README = Path(__file__).parents[1] / "README.rst"


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
    assert len(cotun_trio.__all__) <= 15
    for name in cotun_trio.__all__:
        assert getattr(cotun_trio, name)
    with pytest.raises(AttributeError, match="no attribute 'open_sesame'"):
        cotun_trio.open_sesame  # noqa: B018
