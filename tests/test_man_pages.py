"""The man pages: they have the text of the help, and man and groff find nothing wrong with them."""

from __future__ import annotations

import re
import subprocess
from functools import reduce
from operator import getitem
from typing import TYPE_CHECKING

import pytest

from cotun_trio.cli.app import app
from scripts.man_pages import commands, escaped, main, make_page, note_lines, page_name
from tests.support.peers import needs
from tests.support.programs import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from cyclopts import Parameter

PATHS = list(commands(app))
MAN = {"PATH": "/usr/bin:/bin", "MANWIDTH": "80", "LC_ALL": "C.UTF-8"}


def parameters(path: tuple[str, ...]) -> list[Parameter]:
    """Return the arguments and options of a command."""
    command = reduce(getitem, path, app)
    if not path or command.default_command is None:  # it only has commands
        return []
    return [each.parameter for each in command.assemble_argument_collection()]


def options(path: tuple[str, ...]) -> list[str]:
    """Return the names of the options of a command."""
    return [name for each in parameters(path) for name in each.name or () if name[0] == "-"]


def run(*words: str, given: str = "") -> str:
    """Run a program that must find nothing to warn of; return what it prints."""
    done = subprocess.run(
        words, input=given, env=MAN, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert not done.stderr
    return done.stdout


def shown(roff: str) -> str:
    """Return what a terminal of 80 columns shows of a page, without bold and italics."""
    return run("groff", "-man", "-ww", "-Tutf8", "-P-cbou", "-rLL=80n", given=roff)


# ---- in roff


@pytest.mark.parametrize(
    ("text", "roff"),
    [
        ("--tls-ca", r"\-\-tls\-ca"),
        ("^10\\.0$", r"\(ha10\e.0$"),
        (".TH no request", r"\&.TH no request"),
        ("one\n.two", "one\n\\&.two"),
        ("'no request either", r"\(aqno request either"),
        ("~/`x`", r"\(ti/\(gax\(ga"),
        ("a … and é", r"a \[u2026] and \[u00E9]"),
    ],
)
def test_what_means_something_to_roff_is_escaped(text: str, roff: str) -> None:
    assert escaped(text) == roff


def test_notes_are_sections_and_examples_stay_as_they_are() -> None:
    notes = "\nFirst.\n\n    a  b\n      c\n\nThe exit status is 0.\n\nMore of it.\n"
    assert list(note_lines(notes)) == [
        *(".SH NOTES", ".PP", "First.", ".PP", ".EX", "a  b\n  c", ".EE", ".nh"),
        *(".SH EXIT STATUS", ".PP", "The exit status is 0.", ".PP", "More of it."),
    ]


def test_every_command_has_a_page() -> None:
    assert {(), ("client",), ("server",), ("config",), ("config", "check")} <= set(PATHS)
    assert page_name(("config", "check")) == "cotun-trio-config-check"


@pytest.mark.parametrize("path", PATHS, ids=page_name)
def test_every_option_is_in_the_page_and_every_reference_is_to_one(path: tuple[str, ...]) -> None:
    page = make_page(path, PATHS, "2026-01-31")
    for name in options(path):
        assert re.search(rf"^\\fB.*{re.escape(escaped(name))}\\fR", page, re.MULTILINE), name
    references = re.findall(r"^\.BR (\S+) \(1\)", page, re.MULTILINE)
    assert {each.replace("\\-", "-") for each in references} < {page_name(each) for each in PATHS}
    assert references


def test_a_page_has_defaults_variables_choices_and_the_commands_that_it_names() -> None:
    page = make_page(("client",), PATHS, "2026-01-31")
    assert "[env var: AUTH]" in page
    assert "[choices: auto, chisel, cotun] [default: auto]" in page
    assert ".BR cotun\\-trio\\-forget (1)" in page
    sections = re.findall(r"^\.SH (.*)", page, re.MULTILINE)
    assert sections == [
        *("NAME", "SYNOPSIS", "DESCRIPTION", "ARGUMENTS", "OPTIONS", "NOTES"),
        *("EXIT STATUS", "CONFIGURATION FILE", "ENVIRONMENT", "SEE ALSO"),
    ]


def test_the_pages_are_written_with_the_date_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    monkeypatch.setattr("sys.argv", ["man_pages", str(tmp_path / "man")])
    main()
    files = sorted((tmp_path / "man").iterdir())
    assert sorted(capsys.readouterr().out.splitlines()) == [str(file) for file in files]
    assert {file.stem for file in files} == {page_name(path) for path in PATHS}
    assert '"1970\\-01\\-02"' in files[0].read_text()


# ---- on a terminal


@pytest.mark.slow
@pytest.mark.interop
@needs("groff")
def test_groff_shows_a_text_as_it_is() -> None:
    text = "\\n \\fB .x 'y' `z` -- -v ^$ ~ \\\\ \\(aq … \"q\" é\n.TH x\n'br\n\\&"
    page = shown(f".TH X 1\n.SH Y\n{escaped(text)}\n")
    (body,) = re.findall("^ {7}(\\S.*)", page, re.MULTILINE)
    assert body.split() == text.split()


@pytest.mark.slow
@pytest.mark.interop
@needs("groff", "man")
@pytest.mark.parametrize("path", PATHS, ids=page_name)
def test_man_shows_a_page_without_a_warning(path: tuple[str, ...], tmp_path: Path) -> None:
    roff = make_page(path, PATHS, "2026-01-31")
    page = shown(roff)
    # Examples are not wrapped: in the help, they may reach column 77.
    assert [line for line in page.splitlines() if len(line) > 80] == []
    assert "\u2010" not in page  # no name is divided
    for name in options(path):
        assert re.search(rf"^ {{7}}.*(?<!\S){name}(?![\w-])", page, re.MULTILINE), name
    words = " ".join(page.split())
    for parameter in parameters(path):
        assert " ".join((parameter.help or "").split()) in words
    file = tmp_path / f"{page_name(path)}.1"
    file.write_text(roff)
    assert run("man", "--warnings", "-l", str(file)).split() == page.split()
    assert run("lexgrog", str(file)).startswith(f'{file}: "{page_name(path)} - ')
