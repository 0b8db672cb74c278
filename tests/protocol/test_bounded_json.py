"""`cotun_trio.protocol.bounded_json`: the one place where the depth of JSON is bounded."""

from __future__ import annotations

import json

import pytest

from cotun_trio.protocol.bounded_json import MAX_DEPTH, load_json


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def test_a_value_of_the_greatest_depth_is_read() -> None:
    value = load_json(nested(MAX_DEPTH))
    for _ in range(MAX_DEPTH - 1):
        (value,) = value
    assert value == []


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
@pytest.mark.parametrize("end", ["", "]"])
def test_a_deeper_one_is_refused_before_it_is_parsed(depth: int, end: str) -> None:
    with pytest.raises(ValueError, match=rf"^JSON more than {MAX_DEPTH} deep$"):
        load_json(nested(depth) + end)
    with pytest.raises(ValueError, match="deep"):
        load_json('{"a":' * depth)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps("[" * 100),
        json.dumps('"' + "[" * 100),
        json.dumps("\\" + "{" * 100),
        json.dumps(["[[[[", "{{{{{"] * 50),
        json.dumps([[[]]] * 100),
        json.dumps([{}] * 100),
    ],
)
def test_brackets_in_strings_and_side_by_side_are_no_depth(text: str) -> None:
    assert load_json(text) == json.loads(text)


@pytest.mark.parametrize("text", ["", "[", "]" * 100, '"', '"' + "[" * 100, '["\\', "nothing"])
def test_a_text_that_is_no_json_has_the_position_of_the_fault(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        load_json(text)


def test_the_hooks_are_those_of_json() -> None:
    assert load_json("[12, 3.5]", parse_int=lambda text: text * 2) == ["1212", 3.5]
