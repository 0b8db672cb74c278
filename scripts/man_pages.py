"""Write the man pages, ``make man``: one for the program, and one for each command.

All text is that of ``--help``: cyclopts gives it to a formatter, as it does on a terminal.  The
language is that of roff's man macros, see groff_man(7).  man leaves out what it does not
understand, so tests/test_man_pages.py has it and groff warn of each page.

SOURCE_DATE_EPOCH in the environment sets the date on the pages, in seconds.
"""

from __future__ import annotations

import io
import os
import re
import sys
import textwrap
import time
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts.help import DescriptionRenderer
from rich.console import Console

import cotun_trio.cli  # the commands register themselves
from cotun_trio.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cyclopts import App
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import ConsoleOptions, RenderableType

SECTIONS = {
    "The exit status is": "EXIT STATUS",
    "A configuration file has": "CONFIGURATION FILE",
    "Every duration takes": "ENVIRONMENT",
}
"""The section that a paragraph of the notes opens with these words."""
NOTES = "NOTES"
"""The section of the paragraphs before them."""
_ROFF = {
    "\\": r"\e",
    "-": r"\-",  # as it is, it would be a hyphen, which nobody can copy into a shell
    "'": r"\(aq",
    "`": r"\(ga",
    "^": r"\(ha",
    "~": r"\(ti",
}


def commands(tree: App, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of the program, which are none, and of each command below it."""
    yield path
    for name in sorted(tree):
        if not name.startswith("-"):
            yield from commands(tree[name], (*path, name))


def page_name(path: Sequence[str]) -> str:
    """Return the name of a command's page."""
    return "-".join(["cotun-trio", *path])


def escaped(text: str) -> str:
    """Return roff for a text within one line, or with line ends between words."""
    made = "".join(_ROFF.get(c, c if c.isascii() else f"\\[u{ord(c):04X}]") for c in text)
    return re.sub(r"^(?=\.)", r"\\&", made, flags=re.MULTILINE)  # else it would be a request


def bold(text: str) -> str:
    """Return roff for a text that is typed as it is."""
    return f"\\fB{escaped(text)}\\fR"


def italic(text: str) -> str:
    """Return roff for a text in the place of a value."""
    return f"\\fI{escaped(text)}\\fR"


def plain(content: RenderableType) -> str:
    """Return the text of what cyclopts would print, in one line for each paragraph."""
    console = Console(file=io.StringIO(), width=100_000, color_system=None)
    with console.capture() as capture:
        console.print(content, markup=False, highlight=False)
    return "\n".join(line.rstrip() for line in capture.get().strip().splitlines())


class Page:
    """A man page in the making: what cyclopts calls to format its help."""

    def __init__(self, path: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> None:
        self._path = path
        self._others = [other for other in others if other != path]
        self._usage = ""
        self._description = ""
        self._panels: dict[str, list[str]] = {}
        """The lines below each heading, in their order."""
        self._texts: list[str] = []
        """All of the text before it is roff, for the names of other commands."""

    # ---- from cyclopts; it also says on which console it would print

    def render_usage(self, console: Console, options: ConsoleOptions, usage: object) -> None:  # noqa: ARG002
        """Take the usage line."""
        self._usage = str(usage).strip().removeprefix("Usage: ")

    def render_description(
        self,
        console: Console,  # noqa: ARG002
        options: ConsoleOptions,  # noqa: ARG002
        description: RenderableType,
    ) -> None:
        """Take the sentences that say what the command does."""
        self._description = plain(description)
        self._texts.append(self._description)

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:  # noqa: ARG002
        """Take a group of commands, arguments or options."""
        title = plain(panel.title)
        for entry in panel.entries:
            name, *_ = entry.display_labels
            group = title if not name.startswith("-") or panel.format == "parameter" else "Options"
            labels = _reference((*self._path, name)) if group == "Commands" else _labels(entry)
            text = plain(DescriptionRenderer()(entry))
            self._texts.append(text)
            self._panels.setdefault(group, []).extend([".TP", labels, escaped(text)])

    # ---- to roff

    def lines(self, notes: str, date: str) -> Iterator[str]:
        """Yield the lines of the page; `notes` are what comes after the options in the help."""
        self._texts.append(notes)
        name = page_name(self._path)
        yield '.\\" Made by scripts/man_pages.py from the text of --help.'
        yield (
            f'.TH {escaped(name.upper())} 1 "{escaped(date)}" '
            f'"cotun\\-trio {escaped(cotun_trio.__version__)}" "User Commands"'
        )
        yield from (".nh", ".ad l")  # neither are names divided, nor lines filled with blanks
        summary = self._description.partition(".  ")[0].rstrip(".")
        yield from (".SH NAME", f"{escaped(name)} \\- {escaped(summary)}")
        yield from (".SH SYNOPSIS", _synopsis(self._usage))
        yield from (".SH DESCRIPTION", escaped(self._description))
        yield from self._panel_lines()
        yield from note_lines(notes)
        yield from (".SH SEE ALSO", ",\n".join(self._see_also()))

    def _panel_lines(self) -> Iterator[str]:
        options = False
        for title, lines in self._panels.items():
            if title in ("Commands", "Arguments"):
                yield f".SH {title.upper()}"
            else:
                if not options:
                    yield ".SH OPTIONS"
                    options = True
                if title not in ("Options", "Parameters"):  # the only group of a small command
                    yield f".SS {escaped(title)}"
            yield from lines

    def _see_also(self) -> Iterator[str]:
        """Yield the program, its two roles, the command above, and those that the text names."""
        said = " ".join(" ".join(self._texts).split())
        for other in self._others:
            named = other and re.search(rf"cotun-trio {' '.join(other)}\b(?!-)", said)
            if named or other in ((), ("client",), ("server",), self._path[:-1]):
                yield _reference(other)


def _reference(path: Sequence[str]) -> str:
    return f".BR {escaped(page_name(path))} (1)"


def _labels(entry: HelpEntry) -> str:
    """Return the names of an option or an argument, and the place of its value."""
    labels = [bold(name) for name in entry.all_options]
    if entry.positional_label:
        labels.insert(0, italic(entry.positional_label))
    elif entry.metavar:
        labels[-1] += f" {italic(entry.metavar)}"
    return ", ".join(labels)


def _synopsis(usage: str) -> str:
    """Return roff for a usage line: words to type in bold, and places for values in italics."""
    parts = re.split(r"([A-Z]{2,}|[a-z-]{2,})", usage)
    return "".join(
        escaped(part) if not part.strip("[]. ") else italic(part) if part.isupper() else bold(part)
        for part in parts
    )


def note_lines(notes: str) -> Iterator[str]:
    """Yield the lines of the notes below the options; what is indented stays as it is."""
    section = ""
    for paragraph in re.split(r"\n\n+", notes.strip("\n")):
        if not paragraph:
            continue
        opened = [title for words, title in SECTIONS.items() if paragraph.startswith(words)]
        if opened or not section:
            section = opened[0] if opened else NOTES
            yield f".SH {section}"
        if paragraph.startswith(" "):
            yield from (".PP", ".EX", escaped(textwrap.dedent(paragraph)), ".EE")
            yield ".nh"  # what ends an example divides words again
        else:
            yield from (".PP", escaped(paragraph))


def make_page(path: tuple[str, ...], others: Sequence[tuple[str, ...]], date: str) -> str:
    """Return the page of a command.

    cyclopts prints the notes itself: they go nowhere, and are taken from the command.
    """
    page = Page(path, others)
    before, app.help_formatter = app.help_formatter, page
    try:
        app.help_print(path, console=Console(file=io.StringIO()))
    finally:
        app.help_formatter = before
    notes = reduce(getitem, path, app).help_epilogue or ""
    return "\n".join(page.lines(notes, date)) + "\n"


def main() -> None:
    """Write the pages into the directory that is named."""
    if len(sys.argv) != 2:
        sys.exit("Usage: python -m scripts.man_pages DIRECTORY")
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    now = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    date = time.strftime("%Y-%m-%d", time.gmtime(now))
    paths = list(commands(app))
    for path in paths:
        file = directory / f"{page_name(path)}.1"
        file.write_text(make_page(path, paths, date))
        print(file)


if __name__ == "__main__":
    main()
