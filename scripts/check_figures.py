"""Print what the package measures, and fail where a figure is beyond its bound.

The bounds say how long a file, a function or a class can be before a reader loses the thread, and
how many exceptions there are.  Ruff checks what it has rules for: each public name has a docstring
(D1), no function branches in more than twelve ways (C901).  The rest is counted here.

A function's complexity is McCabe's, counted as radon does it: one, and one more for each branch,
loop, handler, condition, ``and`` or ``or``, assertion and generator; nested functions included.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import grimp

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "cotun_trio"
SOURCE = Path(__file__).parents[1] / PACKAGE

Function = ast.FunctionDef | ast.AsyncFunctionDef


def complexity(function: ast.AST) -> int:
    """Return the complexity of a function, see above."""
    total = 1
    for node in ast.walk(function):
        match node:
            case ast.If() | ast.IfExp() | ast.Assert() | ast.Lambda():
                total += 1
            case ast.For() | ast.AsyncFor() | ast.While():
                total += 1 + bool(node.orelse)
            case ast.Try() | ast.TryStar():
                total += len(node.handlers) + bool(node.orelse)
            case ast.BoolOp():
                total += len(node.values) - 1
            case ast.comprehension():
                total += 1 + len(node.ifs)
            case ast.match_case():
                total += 1
            case _:
                pass
    return total


def length(node: Function | ast.ClassDef) -> int:
    """Return how many lines it has, with its docstring."""
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def body_length(function: Function) -> int:
    """Return how many lines a function has besides its parameters and its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body:
        return 0
    assert body[-1].end_lineno is not None
    return body[-1].end_lineno - body[0].lineno + 1


def definitions(
    tree: ast.AST, kind: type[ast.AST] | tuple[type[ast.AST], ...], name: str
) -> Iterator[tuple[str, ast.AST]]:
    """Give all definitions of a kind, each with its full name; not those within functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            full = f"{name}.{node.name}"
            if isinstance(node, kind):
                yield full, node
            if isinstance(node, ast.ClassDef):
                yield from definitions(node, kind, full)


def cycles(*, with_types: bool) -> list[list[str]]:
    """Return the groups of modules that import each other, directly or not."""
    graph = grimp.build_graph(PACKAGE, exclude_type_checking_imports=not with_types, cache_dir=None)
    modules = graph.modules - {PACKAGE}  # it names its API for those who ask
    reached: dict[str, set[str]] = {}
    for start in modules:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            for other in graph.find_modules_directly_imported_by(waiting.pop()) & modules - found:
                found.add(other)
                waiting.append(other)
        reached[start] = found
    groups = {
        frozenset(other for other in reached[module] if module in reached[other])
        for module in modules
        if module in reached[module]
    }
    return sorted(map(sorted, groups))


def largest(items: dict[str, int], count: int) -> str:
    """Return the names of the largest ones, each with its figure."""
    named = sorted(items.items(), key=lambda item: -item[1])[:count]
    return ", ".join(f"{name} {number}" for name, number in named)


class Figures:
    """The figures, printed as they come; `failed` says whether one is beyond its bound."""

    def __init__(self) -> None:
        self.failed = False

    def show(self, name: str, value: int, bound: int, detail: str = "") -> None:
        """Print a figure; its detail, too, where it is beyond its bound."""
        beyond = value > bound
        self.failed |= beyond
        print(f"{name:<50}{value:>5} of at most {bound}")
        if beyond and detail:
            print(f"    {detail}")


def main() -> int:
    """Return the exit status."""
    files: dict[str, int] = {}
    functions: dict[str, int] = {}
    classes: dict[str, int] = {}
    complexities: dict[str, int] = {}
    doors: defaultdict[str, int] = defaultdict(int)
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).with_suffix("").as_posix().replace("/", ".")
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        files[name] = text.count("\n")
        doors[name] += "." not in name
        for full, node in definitions(tree, (ast.FunctionDef, ast.AsyncFunctionDef), name):
            assert isinstance(node, Function)
            functions[full] = body_length(node)
            complexities[full] = complexity(node)
        for full, node in definitions(tree, ast.ClassDef, name):
            assert isinstance(node, ast.ClassDef)
            classes[full] = length(node)
    over_10 = {name: number for name, number in complexities.items() if number > 10}
    over_15 = {name: number for name, number in over_10.items() if number > 15}
    long_classes = {name: lines for name, lines in classes.items() if lines > 250}
    lengths = sorted(functions.values())
    figures = Figures()
    figures.show("lines of a file, median", int(statistics.median(files.values())), 120)
    figures.show("lines of a file, most", max(files.values()), 450, largest(files, 3))
    figures.show("lines of a function, median", int(statistics.median(lengths)), 6)
    figures.show("lines of a function, 95th percentile", lengths[len(lengths) * 95 // 100], 25)
    figures.show("lines of a function, most", lengths[-1], 48, largest(functions, 3))
    figures.show("functions of a complexity over 10", len(over_10), 12, largest(over_10, 99))
    figures.show("functions of a complexity over 15", len(over_15), 0, largest(over_15, 99))
    figures.show("classes of more than 250 lines", len(long_classes), 3, largest(long_classes, 99))
    figures.show("modules beside the packages", sum(doors.values()), 14)
    for name, with_types in (("import cycles", False), ("import cycles, types included", True)):
        groups = cycles(with_types=with_types)
        figures.show(name, len(groups), 0, "; ".join(" ".join(group) for group in groups))
    return int(figures.failed)


if __name__ == "__main__":
    sys.exit(main())
