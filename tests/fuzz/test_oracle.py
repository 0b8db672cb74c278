"""The checks of the fuzz targets: parsers with one fault each are caught, correct ones pass."""

from __future__ import annotations

import pytest

from cotun_trio.errors import ProtocolError
from tests.fuzz.oracle import (
    Program,
    Weighed,
    Work,
    check_text,
    failed,
    outcome,
    same_however_cut,
    ways_to_cut,
)

DATA = bytes(range(65, 91))


class Lines:
    """Gives the words of a stream, each of which ends in a space."""

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, piece: bytes) -> list[bytes]:
        *words, self._kept = (self._kept + piece).split(b" ")
        if b"!" in words:
            raise ProtocolError("an exclamation mark")
        return words


def test_an_input_is_cut_in_three_ways_and_always_in_the_same() -> None:
    ways = list(ways_to_cut(DATA))
    assert ways == list(ways_to_cut(DATA))
    assert [len(way) for way in ways] == [1, len(DATA), 8]
    assert {b"".join(way) for way in ways} == {DATA}


def test_a_parser_that_keeps_what_is_incomplete_passes() -> None:
    assert same_however_cut(lambda: Lines().feed, b"one two thr") == [b"one", b"two"]


def test_an_error_is_a_part_of_what_has_to_be_the_same() -> None:
    found = same_however_cut(lambda: Lines().feed, b"! a ")
    assert found == [(ProtocolError, "an exclamation mark")]
    assert failed(found)
    assert not failed([b"one"])
    assert not failed([])


def test_what_came_before_an_error_counts() -> None:
    assert outcome(Lines().feed, [b"a ", b"! b "]) == [b"a", (ProtocolError, "an exclamation mark")]


def test_a_parser_that_forgets_is_caught() -> None:
    with pytest.raises(AssertionError, match="cut: "):
        same_however_cut(lambda: lambda piece: piece.split(b" "), b"one two")


def test_an_error_that_is_no_error_of_ours_is_caught() -> None:
    with pytest.raises(ZeroDivisionError):
        outcome(lambda _piece: [1 // 0], [b""])


def test_work_is_counted_in_calls_and_those_of_c_are_among_them() -> None:
    with Work(at_most=200) as work:
        for byte in DATA:
            str(byte).isdigit()
    assert len(DATA) <= work.calls <= 3 * len(DATA)


def test_more_work_than_allowed_is_caught() -> None:
    with pytest.raises(AssertionError, match="10 allowed"), Work(at_most=10):
        for byte in DATA:
            str(byte).isdigit()


def test_an_error_is_not_hidden_by_the_work_before_it() -> None:
    with pytest.raises(ProtocolError), Work(at_most=0):
        raise ProtocolError(str(len(DATA)))


def test_copies_are_counted_through_slices_of_slices() -> None:
    Weighed.copied = 0
    data = Weighed(DATA)
    assert data[0] == DATA[0]
    while data:
        data = data[1:]
    assert Weighed.copied == sum(range(len(DATA)))


def test_a_program_has_zeros_behind_its_end() -> None:
    program = Program(b"\x01\x02\x03\x02ab")
    assert (program.number(), program.number(2), program.string()) == (1, 0x203, b"ab")
    assert not program
    assert (program.number(), program.string(), program.rest()) == (0, b"", b"")


def test_text_that_could_change_a_terminal_is_caught() -> None:
    check_text(ProtocolError("plain"))
    with pytest.raises(AssertionError):
        check_text(ProtocolError("\x1b[31m"))
