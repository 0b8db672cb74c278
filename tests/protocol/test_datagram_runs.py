"""Datagrams between two of ours: runs, each with one head."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.errors import ProtocolError
from cotun_trio.protocol.datagram_codec import MAX_PAYLOAD, MAX_SOURCE
from cotun_trio.protocol.datagram_runs import MAX_COUNT, MAX_FLOWS, RunDecoder, RunEncoder
from tests.support.datagrams import (
    Datagram,
    batch,
    bytewise,
    cut,
    datagrams_in,
    decoded,
    outcome,
)


def head(flow: int, size: int, count: int) -> bytes:
    return struct.pack(">HHH", flow, size, count)


def source(flow: int, text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return head(flow, len(raw), 0) + raw


A = source(0, "a:1")


# What it looks like


def test_a_run_has_one_head_and_its_source_is_sent_once() -> None:
    encoder = RunEncoder()
    datagrams = [Datagram("a:1", b"xxx"), Datagram("a:1", b"yyy")]
    run = bytes.fromhex("0000 0003 0002  78 78 78 79 79 79")
    assert batch(encoder, datagrams) == bytes.fromhex("0000 0003 0000  61 3a 31") + run
    assert batch(encoder, datagrams) == run


def test_another_source_or_another_size_begins_another_run() -> None:
    encoder = RunEncoder()
    datagrams = [Datagram(*pair) for pair in (("a:1", b"x"), ("b:2", b"y"), ("a:1", b"z"))]
    a, b = head(0, 1, 1), head(1, 1, 1)
    assert batch(encoder, datagrams) == A + a + b"x" + source(1, "b:2") + b + b"y" + a + b"z"
    sizes = [Datagram("a:1", bytes(size)) for size in (1, 2, 2, 1)]
    expected = a + bytes(1) + head(0, 2, 2) + bytes(4) + a + bytes(1)
    assert batch(encoder, sizes) == expected


def test_empty_datagrams_are_records_of_their_own() -> None:
    empty = [Datagram("a:1", b"")] * 3
    assert batch(RunEncoder(), empty) == A + head(0, 0, 1) * 3
    assert decoded(RunDecoder(), A + head(0, 0, 1) * 3) == empty


def test_a_run_has_no_more_than_its_head_can_say() -> None:
    stream = batch(RunEncoder(), [Datagram("a:1", b"x")] * (MAX_COUNT + 1))
    assert stream.startswith(A + head(0, 1, MAX_COUNT) + b"x" * MAX_COUNT + head(0, 1, 1))
    assert len(decoded(RunDecoder(), stream)) == MAX_COUNT + 1


def test_the_number_of_the_longest_silent_source_is_given_to_a_new_one() -> None:
    encoder, decoder = RunEncoder(), RunDecoder()
    for number in range(MAX_FLOWS):
        encoder.encode(f"a:{number}", b"")
    encoder.encode("a:0", b"")  # so that the second one is silent for longest
    assert encoder.encode("new:1", b"") == source(1, "new:1") + head(1, 0, 1)
    assert encoder.encode("a:1", b"") == source(2, "a:1") + head(2, 0, 1)
    many = [Datagram(f"b:{number % (MAX_FLOWS + 5)}", b"x") for number in range(3 * MAX_FLOWS)]
    assert decoded(decoder, batch(RunEncoder(), many)) == many
    assert len(decoder._sources) == MAX_FLOWS


# How it is read


def test_a_flow_can_be_defined_anew() -> None:
    one = head(0, 1, 1) + b"x"
    stream = A + one + source(0, "b:2") + one
    assert decoded(RunDecoder(), stream) == [Datagram("a:1", b"x"), Datagram("b:2", b"x")]


def test_a_run_is_given_in_one_piece_and_no_more_of_it_than_was_asked_for() -> None:
    decoder = RunDecoder()
    assert decoder.read(memoryview(A), 64) == (None, len(A))
    stream = memoryview(head(0, 2, 10) + b"0123456789" * 2)
    taken = []
    while stream:
        run, size = decoder.read(stream, 4)
        stream = stream[size:]
        assert run is not None
        taken.append((run.count, len(run.pieces)))
    assert taken == [(4, 1), (4, 1), (2, 1)]


def test_what_is_behind_the_datagrams_that_were_asked_for_is_left() -> None:
    decoder = RunDecoder()
    decoder.read(memoryview(A), 64)
    stream = memoryview(head(0, 2, 3) + b"0123")
    run, size = decoder.read(stream, 1)
    assert run is not None
    assert (list(run.each()), size) == ([b"01"], 8)


def test_a_datagram_is_there_with_its_last_byte_and_not_before() -> None:
    decoder = RunDecoder()
    assert list(datagrams_in(decoder, A + head(0, 3, 2) + b"ab")) == []
    assert list(datagrams_in(decoder, b"c")) == [Datagram("a:1", b"abc")]
    assert list(datagrams_in(decoder, b"de")) == []
    assert list(datagrams_in(decoder, b"f")) == [Datagram("a:1", b"def")]


def test_no_more_is_kept_than_one_datagram() -> None:
    decoder = RunDecoder()
    for piece in bytewise(A + head(0, 100, 20) + bytes(2000)):
        list(datagrams_in(decoder, piece))
        assert len(decoder._buffer) <= 100


# What is wrong

WRONG: dict[str, bytes] = {
    "a flow that is not defined": head(0, 1, 1),
    "another flow than that": A + head(1, 1, 1),
    "a flow beyond the last": A + head(MAX_FLOWS, 1, 1),
    "a definition of such a flow": source(MAX_FLOWS, "a:1"),
    "a source that is too long": head(0, MAX_SOURCE + 1, 0),
    "a source that is not UTF-8": source(0, b"\xff"),
    "a source with half of a surrogate pair": source(0, b"\xed\xa0\x80"),
    "a payload that is too long": A + head(0, MAX_PAYLOAD + 1, 1),
    "a run of empty datagrams": A + head(0, 0, 2),
    "gob": bytes.fromhex("2a7f03010109756470"),
    "HTTP": b"GET / HTTP/1.1\r\n\r\n" * 20,
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
def test_what_is_no_stream_of_runs_is_a_protocol_error(data: bytes) -> None:
    for pieces in ([data], bytewise(data)):
        with pytest.raises(ProtocolError, match=r"^UDP stream: ") as caught:
            decoded(RunDecoder(), *pieces)
        assert str(caught.value).isprintable()


def test_what_came_before_the_error_is_delivered() -> None:
    found = datagrams_in(RunDecoder(), A + head(0, 1, 2) + b"xy" + head(5, 1, 1))
    assert [next(found).payload, next(found).payload] == [b"x", b"y"]
    with pytest.raises(ProtocolError):
        next(found)


def test_the_largest_datagram_with_the_longest_source_passes() -> None:
    largest = Datagram("s" * MAX_SOURCE, b"p" * MAX_PAYLOAD)
    assert decoded(RunDecoder(), RunEncoder().encode(largest.source, largest.payload)) == [largest]


# Properties

DATAGRAMS = st.lists(
    st.builds(
        Datagram,
        st.sampled_from(["a:1", "b:2", ""]) | st.text(max_size=60),
        st.binary(max_size=4) | st.binary(max_size=300),
    ),
    max_size=12,
)


@given(DATAGRAMS, st.lists(st.integers(0, 5000)), st.integers(1, 64))
def test_datagrams_are_read_back_from_their_stream_however_it_is_cut(
    datagrams: list[Datagram], cuts: list[int], most: int
) -> None:
    pieces = cut(batch(RunEncoder(), datagrams), cuts)
    assert decoded(RunDecoder(), *pieces, most=most) == datagrams


def changed(data: bytes, place: int, patch: bytes, removed: int) -> bytes:
    place %= len(data) + 1
    return data[:place] + patch + data[place + removed :]


@given(DATAGRAMS, st.integers(0, 400), st.binary(max_size=4), st.integers(0, 3))
def test_a_damaged_stream_is_an_error_or_not_but_the_same_in_any_pieces(
    datagrams: list[Datagram], place: int, patch: bytes, removed: int
) -> None:
    damaged = changed(batch(RunEncoder(), datagrams), place, patch, removed)
    expect_same(damaged)


RECORDS = st.builds(
    lambda flow, size, count, rest: head(flow, size, count) + rest,
    st.sampled_from([0, 1, MAX_FLOWS - 1, MAX_FLOWS]),
    st.sampled_from([0, 1, 2, 3, MAX_SOURCE, MAX_SOURCE + 1, MAX_PAYLOAD, MAX_PAYLOAD + 1]),
    st.sampled_from([0, 0, 1, 2, 3, MAX_COUNT]),
    st.binary(max_size=9),
)


@given(st.lists(RECORDS).map(b"".join) | st.binary())
def test_any_bytes_are_datagrams_or_a_protocol_error(data: bytes) -> None:
    expect_same(data)
    expect_same(A + data)


def expect_same(stream: bytes) -> None:
    whole = outcome(RunDecoder(), [stream])
    for pieces, most in itertools.product(([stream], list(bytewise(stream))), (1, 64)):
        assert outcome(RunDecoder(), pieces, most=most) == whole


def test_time_is_linear_in_the_bytes_of_a_run() -> None:
    # What takes quadratic time here takes minutes.
    stream = A + head(0, 1, MAX_COUNT) + bytes(MAX_COUNT)
    assert sum(1 for _ in decoded(RunDecoder(), stream)) == MAX_COUNT
