"""Values in messages: as JSON, and back as the types that a class says by its annotations."""

from __future__ import annotations

import enum
import functools
import math
import types
import typing
from typing import Any, Literal, TypeVar

import attrs

from cotun_trio.counts import Meters

T = TypeVar("T")
_NUMBERS = dict[str, tuple[int | float, ...]]


def pack(value: Any) -> Any:
    """Return a value for `json.dumps`: an object is the list of its fields."""
    if isinstance(value, Meters):
        return value.numbers
    if isinstance(value, enum.Enum):
        return value.value
    if attrs.has(type(value)):
        return [pack(each) for each in attrs.astuple(value, recurse=False)]
    if isinstance(value, list | tuple):
        return [pack(each) for each in value]
    if isinstance(value, dict):
        return {name: pack(each) for name, each in value.items()}
    return value


def unpack(kind: type[T], value: Any) -> T:
    """Return a value of JSON as what `pack` was given, which was a `kind`.

    That is an attrs class, `Meters`, an enumeration, a ``tuple``, a ``dict`` by texts, a union, a
    literal, one of JSON's own types, or ``object`` for any value as it came.  Raises `ValueError`
    for others.
    """
    hint: Any = kind
    result: T = _unpack_generic(hint, value) if typing.get_args(hint) else _unpack(hint, value)
    return result


def _unpack(kind: Any, value: Any) -> Any:
    if kind is object:
        return value
    if kind is Meters:
        return Meters.of(unpack(_NUMBERS, value))
    if attrs.has(kind):
        hints = _hints(kind)
        return kind(**dict(zip(hints, _each(tuple(hints.values()), value), strict=True)))
    if issubclass(kind, enum.Enum):
        return kind(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise ValueError
    return value


def _unpack_generic(hint: Any, value: Any) -> Any:
    kinds, origin = typing.get_args(hint), typing.get_origin(hint)
    if origin is Literal:
        if value not in kinds:
            raise ValueError
        return value
    if origin is types.UnionType:
        for kind in kinds:
            try:
                return unpack(kind, value)
            except ValueError:
                continue
        raise ValueError
    if origin is dict:
        return {name: unpack(kinds[1], each) for name, each in _as_dict(value).items()}
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * (len(value) if isinstance(value, list) else 0)
    return tuple(_each(kinds, value))


def _as_dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError
    return value


def _each(kinds: tuple[Any, ...], value: Any) -> list[Any]:
    """Return the items of a list of JSON, each as its own kind."""
    if not isinstance(value, list) or len(value) != len(kinds):
        raise ValueError
    return [unpack(kind, each) for kind, each in zip(kinds, value, strict=True)]


@functools.cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    """Return the types of the fields of an attrs class."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in attrs.fields(kind)}
