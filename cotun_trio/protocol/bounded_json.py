"""JSON from outside, of bounded depth: the parser recurses for each object and each array.

Time and memory are linear in the size of the text, which the caller bounds.
"""

import json
import re
from typing import Any

MAX_DEPTH = 8
"""Objects and arrays in one another: nothing that is read here is more than 3 deep."""

# A string without an end is taken to the end of the text, and never looked at again: linear time.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKET = re.compile(r"[\[{\]}]")


def load_json(text: str, **hooks: Any) -> Any:
    """Return the value that `text` is; `hooks` are those of `json.loads`.

    Raises `ValueError` where it is more than `MAX_DEPTH` deep, and `json.JSONDecodeError`, which is
    one, too, where it is not JSON.
    """
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub("", text)):
        if bracket[0] in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"JSON more than {MAX_DEPTH} deep")
        else:
            depth -= 1
    return json.loads(text, **hooks)
