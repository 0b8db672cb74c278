"""The values of options, as a program gives them: strings as on the command line are taken, too.

Each function takes the name of an option and a value of any type, and returns what the settings
have; anything else is a `UsageError` that names the option.  It shows no value: one that is in the
wrong place may be a password.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cotun_trio.access.credentials import to_credentials
from cotun_trio.errors import UsageError
from cotun_trio.units import LONGEST, parse_duration

if TYPE_CHECKING:
    from cotun_trio.access.credentials import Credentials


def wrong(option: str, expected: str, value: object) -> UsageError:
    """Return the error for a value of the wrong type."""
    return UsageError(f"{option} is {expected}, not a value of the type {type(value).__name__}")


def to_seconds(option: str, value: object) -> float:
    """Return the seconds of a number, or of a duration such as ``25s``."""
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except UsageError as error:
            raise UsageError(f"{option}: {error}") from None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong(option, "a number of seconds or a text like '25s'", value)
    if not (math.isfinite(value) and 0 <= value <= LONGEST):
        raise UsageError(f"{option} is a number of seconds, from 0 to ten years, not {value}")
    return value


def to_count(option: str, value: object) -> int:
    """Return a whole number, which may be a text."""
    if isinstance(value, str) and re.fullmatch("-?[0-9]{1,18}", value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(option, "a whole number", value)
    return value


def to_optional_count(option: str, value: object) -> int | None:
    """Return a whole number, which may be a text, or None."""
    return None if value is None else to_count(option, value)


def to_flag(option: str, value: object) -> bool:
    """Return whether it is True; only True and False will do."""
    if not isinstance(value, bool):
        raise wrong(option, "True or False", value)
    return value


def to_text(option: str, value: object) -> str | None:
    """Return a text, or None."""
    if value is not None and not isinstance(value, str):
        raise wrong(option, "a text", value)
    return value


def to_given_text(option: str, value: object) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise wrong(option, "a text", value)
    return value


def to_path(option: str, value: object) -> str | None:
    """Return the path of a file as a text, or None."""
    return to_text(option, os.fspath(value) if isinstance(value, os.PathLike) else value)


def to_texts(option: str, value: object) -> tuple[str, ...]:
    """Return texts; a single one is a list of one."""
    found = [value] if isinstance(value, str) else to_items(option, "texts", value)
    for each in found:
        if not isinstance(each, str):
            raise wrong(option, "a text, or a list of texts", each)
    return tuple(found)


def to_pair(_option: str, value: Any) -> Credentials | None:
    """Return the credentials that a text, a pair or credentials are, or None."""
    return to_credentials(value)


def to_header_lines(option: str, value: object) -> list[str]:
    """Return headers as ``Name: value``: of such texts, of pairs, or of a mapping."""
    if isinstance(value, Mapping):
        value = value.items()
    lines = []
    for each in [value] if isinstance(value, str) else to_items(option, "headers", value):
        if not (isinstance(each, str) or _is_pair(each)):
            raise wrong(option, "a mapping, or a list of pairs or of texts 'Name: value'", each)
        lines.append(each if isinstance(each, str) else f"{each[0]}: {each[1]}")
    return lines


def to_items(option: str, of: str, value: object) -> list[Any]:
    """Return the items of an iterable that is no string and no mapping."""
    if not isinstance(value, Iterable) or isinstance(value, (bytes, bytearray, Mapping)):
        raise wrong(option, f"a list of {of}", value)
    return list(value)


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and all(isinstance(part, str) for part in value)
    )
