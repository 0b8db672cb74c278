"""JSON from a peer: read as Go's ``encoding/json`` reads it, and within bounds.

Go takes the names of fields in any case, ignores unknown fields, and takes ``null`` for "as it
was".  Time and memory are linear in the size of the text, which the caller bounds.
"""

from typing import TypeVar

from cotun_trio.protocol.bounded_json import load_json


class JsonError(ValueError):
    """A fault in a JSON text; foreign text in the error is escaped."""


Fields = dict[str, object]
"""An object, for `take`: its names without their case, and without fields that were null."""

Value = TypeVar("Value", str, bool, list[object], Fields)


def parse_object(payload: bytes) -> Fields:
    """Return the object that `payload` holds; ``null`` is an empty one.  Raises `JsonError`."""
    try:
        fields = load_json(
            payload.decode(),
            # None of our fields is a number; and a huge one would keep `int` busy, or fail in it.
            parse_int=lambda _: 0.0,
            parse_constant=_refuse_constant,
            object_pairs_hook=_fold_names,
        )
    except ValueError as error:
        raise JsonError(str(error)) from error
    if fields is None:
        return {}
    if not isinstance(fields, dict):
        raise JsonError("not a JSON object")
    return fields


def take(fields: Fields, name: str, default: Value) -> Value:
    """Return the field `name`, which is of the type of its default, or the default.

    Raises `JsonError` for one of another type.
    """
    value = fields.get(name.casefold(), default)
    if not isinstance(value, type(default)):
        raise JsonError(f"{name} is of the wrong type")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")  # though Python takes it for such


def _fold_names(pairs: list[tuple[str, object]]) -> Fields:
    """Build an object as Go does: names without case, the last one wins, null changes nothing."""
    return {name.casefold(): value for name, value in pairs if value is not None}
