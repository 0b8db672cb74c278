"""JSON Schema of attrs classes, for the OpenAPI document.

The annotations are the types, and the docstrings of a class and of its fields are the descriptions:
there is no second place to forget.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import itertools
import re
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs

REFERENCE = "#/components/schemas/"
_SIMPLE = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
_INLINE = re.compile("``([^`]*)``")


class Schemas:
    """The schemas of a document: those of the classes that have been asked for, by their names."""

    def __init__(self) -> None:
        self.named: dict[str, dict[str, Any]] = {}
        self._kinds: dict[str, type] = {}

    def of(self, kind: Any) -> dict[str, Any]:
        """Return the schema of a type: of simple ones, lists, dictionaries, unions of simple ones,
        literals and attrs classes.

        Raises `TypeError` for others, and for two classes of one name.
        """
        if kind in _SIMPLE:
            return {"type": _SIMPLE[kind]}
        if attrs.has(kind):
            return self._reference(kind)
        return self._composed(kind, get_origin(kind), get_args(kind))

    def _composed(self, kind: Any, origin: Any, inner: tuple[Any, ...]) -> dict[str, Any]:
        """Return the schema of a type that is made of others."""
        if origin is Literal:
            return {"type": "string", "enum": list(inner)}
        if origin in (dict, Mapping):
            more = {} if inner[1] is Any else {"additionalProperties": self.of(inner[1])}
            return {"type": "object", **more}
        if origin in (list, tuple):
            return {"type": "array", "items": self.of(inner[0])}
        if origin in (Union, types.UnionType) and all(each in _SIMPLE for each in inner):
            return {"type": [_SIMPLE[each] for each in inner]}
        raise TypeError(f"no schema for {kind}")

    def _reference(self, kind: type[attrs.AttrsInstance]) -> dict[str, Any]:
        name = kind.__name__
        if name not in self._kinds:
            self._kinds[name] = kind  # first: a class can have a field of its own kind
            self.named[name] = self._object(kind)
        if self._kinds[name] is not kind:
            raise TypeError(f"two schemas called {name}")
        return {"$ref": REFERENCE + name}

    def _object(self, kind: type[attrs.AttrsInstance]) -> dict[str, Any]:
        hints, told = get_type_hints(kind), _field_docs(kind)
        properties = {}
        for field in attrs.fields(kind):
            properties[field.name] = self.of(hints[field.name])
            if field.name in told:
                properties[field.name]["description"] = told[field.name]
        return {
            "type": "object",
            "description": plain(kind.__doc__),
            "properties": properties,
            "required": list(properties),
        }


def plain(doc: str | None) -> str:
    """Return a docstring as Markdown on one line, with the words of JSON."""
    text = re.sub(r"\bNone\b", "null", " ".join((doc or "").split()))
    return _INLINE.sub(r"`\1`", text)


def _field_docs(kind: type) -> dict[str, str]:
    """Return the docstrings of the fields of a class: the texts behind them in its source.

    There are none where the source is not there.
    """
    told: dict[str, str] = {}
    for each in reversed(kind.__mro__[:-1]):
        with contextlib.suppress(OSError):
            told.update(_docs_in(ast.parse(inspect.getsource(each))))
    return told


def _docs_in(module: ast.Module) -> dict[str, str]:
    """Return the docstrings of the fields of the only class in it."""
    klass = module.body[0]
    assert isinstance(klass, ast.ClassDef)
    told = {}
    for pair in itertools.pairwise(klass.body):
        match pair:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(doc))),
            ):
                told[name] = plain(doc)
            case _:
                pass
    return told
