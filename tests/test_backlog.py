"""The backlog: bytes leave it in the order in which they came, and in few pieces."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.backlog import MAX_VIEWS, PIECE, Backlog

sizes = st.one_of(
    st.integers(0, 10), st.sampled_from([100, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
)
steps = st.lists(
    st.tuples(st.sampled_from(["append", "take", "advance", "append_rest"]), sizes), max_size=30
)


def content(backlog: Backlog) -> bytes:
    return b"".join(backlog.views())


@given(steps)
def test_it_holds_exactly_what_was_added_and_not_yet_taken(steps: list[tuple[str, int]]) -> None:
    backlog, model, source = Backlog(), bytearray(), random.Random(1)
    for what, size in steps:
        data = source.randbytes(size)
        if what == "append":
            backlog.append(data)
            model += data
        elif what == "append_rest":
            cut = size // 3
            taken = size // 2
            backlog.append_rest([memoryview(data)[:cut], data[cut:]], taken)
            model += data[taken:]
        elif what == "take":
            assert backlog.take(size) == model[:size]
            del model[:size]
        else:
            count = min(size, len(model))
            backlog.advance(count)
            del model[:count]
        assert len(backlog) == len(model)
        assert bool(backlog) == bool(model)
    assert content(backlog) == model


def test_a_byte_at_a_time_stays_in_few_pieces() -> None:
    backlog = Backlog()
    for i in range(2 * PIECE + 10):
        backlog.append(bytes((i & 255,)))
    assert len(backlog.views()) == 3
    assert content(backlog)[250:260] == bytes((250, 251, 252, 253, 254, 255, 0, 1, 2, 3))


def test_it_grows_while_somebody_still_has_a_view_of_it() -> None:
    backlog = Backlog()
    backlog.append(b"one")
    views = backlog.views()
    backlog.append(b"two")
    assert (len(backlog), bytes(views[0])) == (6, b"one")
    assert content(backlog) == b"onetwo"
    backlog.advance(6)
    assert not backlog


def test_large_pieces_are_kept_apart() -> None:
    backlog = Backlog()
    for _ in range(3):
        backlog.append(bytes(PIECE))
    assert [len(view) for view in backlog.views()] == [PIECE] * 3


def test_no_more_views_are_offered_than_a_gathering_write_takes() -> None:
    backlog = Backlog()
    for _ in range(MAX_VIEWS + 5):
        backlog.append(bytes(PIECE))
    assert len(backlog.views()) == MAX_VIEWS < 1024
    backlog.advance(sum(map(len, backlog.views())))
    assert len(backlog.views()) == 5


def test_a_piece_taken_in_part_is_offered_from_where_it_was_left() -> None:
    backlog = Backlog()
    backlog.append(b"hello ")
    backlog.append(b"world")
    backlog.advance(8)
    assert content(backlog) == b"rld"
    backlog.append(b"!")
    assert content(backlog) == b"rld!"
    assert len(backlog) == 4


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_what_was_added_is_a_copy(kind: type) -> None:
    source = bytearray(b"before")
    backlog = Backlog()
    backlog.append(kind(source))
    source[:] = b"after!"
    assert content(backlog) == b"before"


def test_adding_nothing_leaves_no_piece() -> None:
    backlog = Backlog()
    backlog.append(b"")
    backlog.append_rest([b"", b"ab"], 2)
    assert backlog.views() == []
    assert not backlog
    assert backlog.take(10) == b""


def test_taking_no_bytes_takes_none() -> None:
    backlog = Backlog()
    backlog.append(b"abc")
    assert backlog.take(0) == b""
    assert content(backlog) == b"abc"


def test_it_can_be_used_on_after_it_was_taken_from_or_cleared() -> None:
    backlog = Backlog()
    backlog.append(b"abcdef")
    backlog.advance(2)
    backlog.clear()
    assert len(backlog) == 0
    assert backlog.views() == []
    backlog.append(b"xyz")
    assert backlog.take(2) == b"xy"
    backlog.append(b"12")
    assert backlog.take(10) == b"z12"


def test_taking_keeps_no_view() -> None:
    backlog = Backlog()
    backlog.append(b"abc")
    assert backlog.take(2) == b"ab"
    backlog.append(b"d")
    assert len(backlog.views()) == 1  # where there is a view, a piece does not grow
    assert backlog.take(3) == b"cd"
