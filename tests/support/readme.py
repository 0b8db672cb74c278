"""README as tests read it: its literal blocks, each in the section that it stands in."""

from __future__ import annotations

import contextlib
import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from docutils.core import publish_doctree

if TYPE_CHECKING:
    from collections.abc import Iterator

README = Path(__file__).parents[2] / "README.rst"
FINGERPRINT = "QpUjJ1…="
"""What stands in README for a server's fingerprint."""


class Block:
    """A literal block.  A test reads its `text`, and the section knows then that it has a test."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.used = False

    @property
    def text(self) -> str:
        """The text, without indentation."""
        self.used = True
        return self._text

    def __repr__(self) -> str:
        return f"<Block {self._text[:60]!r}>"


@functools.cache
def _tree() -> nodes.document:
    settings = {"report_level": 5, "syntax_highlight": "none"}
    tree = publish_doctree(README.read_text(), settings_overrides=settings)
    assert isinstance(tree, nodes.document)
    return tree


def _title(node: nodes.Node) -> str:
    while not isinstance(node, (nodes.section, nodes.document)):
        assert node.parent is not None
        node = node.parent
    return str(next(iter(node.findall(nodes.title))).astext())


def blocks() -> dict[str, list[str]]:
    """Return the texts of all literal blocks, by the title of the section right above them."""
    found: dict[str, list[str]] = {}
    for node in _tree().findall(nodes.literal_block):
        found.setdefault(_title(node), []).append(node.astext())
    return found


@contextlib.contextmanager
def section(title: str) -> Iterator[list[Block]]:
    """Give the blocks of a section, all of which a test has to use."""
    found = [Block(text) for text in blocks()[title]]
    yield found
    unused = [block for block in found if not block.used]
    assert not unused, f"README, {title}: no test has looked at {unused}"


def literals(title: str) -> list[str]:
    """Return what stands between double backquotes in a section, those within it included."""
    for node in _tree().findall(nodes.section):
        if next(iter(node.findall(nodes.title))).astext() == title:
            return [each.astext() for each in node.findall(nodes.literal)]
    raise AssertionError(title)


def terms(title: str) -> list[str]:
    """Return the literals that are terms of the definition lists of a section."""
    for node in _tree().findall(nodes.section):
        if next(iter(node.findall(nodes.title))).astext() == title:
            found = (each.findall(nodes.literal) for each in node.findall(nodes.term))
            return [each.astext() for group in found for each in group]
    raise AssertionError(title)


def rows(title: str) -> list[list[str]]:
    """Return the rows of the tables of a section, as texts."""
    for node in _tree().findall(nodes.section):
        if next(iter(node.findall(nodes.title))).astext() == title:
            return [
                [entry.astext() for entry in row.findall(nodes.entry)]
                for row in node.findall(nodes.row)
            ]
    raise AssertionError(title)


def looks_like(shown: str) -> re.Pattern[str]:
    """Return a pattern for lines that README shows: ``…`` stands for anything within a line."""
    lines = (re.escape(line).replace("…", ".*") for line in shown.strip("\n").split("\n"))
    return re.compile(r"\s*\n".join(lines))
