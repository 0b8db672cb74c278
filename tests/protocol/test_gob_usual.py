"""Values as Go writes them are read in place: to the same effect as by the reader of fields."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.protocol.gob import Decoder
from cotun_trio.protocol.gob_encoder import DEFINITION, Encoder, uint
from cotun_trio.protocol.gob_usual import MAX_USUAL, usual_head
from tests.support.datagrams import Datagram, batch, bytewise, cut, outcome

TYPE = b"\xff\x80"


class SlowDecoder(Decoder):
    """A decoder that reads all fields of all values."""

    def _know_head(self, data: memoryview) -> bool:
        return False


def expect_same(stream: bytes, cuts: list[int] | None = None) -> None:
    """Check that both ways give the same, in any pieces."""
    expected = outcome(SlowDecoder(), [stream])
    for pieces in ([stream], list(bytewise(stream)), cut(stream, cuts or [])):
        assert outcome(Decoder(), pieces) == expected
        assert outcome(Decoder(), pieces, most=1) == expected


DATAGRAMS = st.lists(
    st.builds(
        Datagram,
        st.sampled_from(["a:1", "b:2", "", "ü" * 64, "a" * 127, "a" * 128]),
        st.sampled_from([b"", b"x", b"y", b"\0", b"\1\1", bytes(127), bytes(128), bytes(256)]),
    ),
    min_size=1,
    max_size=9,
)


@pytest.mark.slow
@given(DATAGRAMS, st.lists(st.integers(0, 3000)))
def test_streams_of_go_are_read_alike(datagrams: list[Datagram], cuts: list[int]) -> None:
    expect_same(batch(Encoder(), datagrams), cuts)


@pytest.mark.slow
@given(DATAGRAMS, st.integers(0, 1000), st.binary(max_size=3), st.integers(0, 3))
def test_damaged_streams_are_read_alike(
    datagrams: list[Datagram], place: int, patch: bytes, removed: int
) -> None:
    stream = batch(Encoder(), datagrams)
    place %= len(stream)
    expect_same(stream[:place] + patch + stream[place + removed :])


BYTES = st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 7, 9, 0x61, 0x80, 0xFD, 0xFE, 0xFF])).map(bytes)


@pytest.mark.slow
@given(BYTES, BYTES)
def test_bytes_that_look_like_values_are_read_alike(one: bytes, other: bytes) -> None:
    first = Encoder().encode("a:1", b"x")
    for body in (one, b"\x01\x03a:1\x01" + one, b"\x01\x03a:1" + one):
        message = bytes([len(TYPE + body)]) + TYPE + body
        for stream in (first + message + other, first + message * 3 + other):
            expect_same(stream)


@pytest.mark.parametrize("type_id", [1, 63, 64, 65, 128, 2**31])
def test_the_type_id_may_be_any(type_id: int) -> None:
    raw = uint(type_id << 1)
    value = bytes([9 + len(raw)]) + raw + b"\x01\x03a:1\x01\x01x\0"
    number = 2 * type_id - 1  # the negative one
    size = (number.bit_length() + 7) // 8
    negative = bytes([number] if number < 128 else [256 - size, *number.to_bytes(size)])
    definition = DEFINITION[1:].replace(b"\x7f", negative, 1)
    expect_same(bytes([len(definition)]) + definition + value * 3)
    assert usual_head(value, raw) == (value[:-2], "a:1", 1)


def test_the_longest_head_is_looked_at_whole() -> None:
    source, payload = "a" * 127, bytes(65_000)
    encoder = Encoder()
    encoder.encode("", b"")
    wire = encoder.encode(source, payload)
    head = usual_head(wire[:MAX_USUAL], TYPE)
    assert head is not None
    assert head[1:] == (source, 65_000)
    assert usual_head(b"", TYPE) is None


def test_values_of_one_kind_are_one_run_also_across_the_end_of_a_read() -> None:
    stream = batch(Encoder(), [Datagram("a:1", bytes(50))] * 10)
    place = len(DEFINITION) + 3 * (len(stream) - len(DEFINITION)) // 10 + 20
    decoder, counts = Decoder(), []
    for piece in (stream[:place], stream[place:]):
        rest = memoryview(piece)
        while rest:
            run, size = decoder.read(rest, 64)
            rest = rest[size:]
            counts.append(run.count if run is not None else 0)
    assert list(itertools.accumulate(counts))[-1] == 10
    assert counts[-1] == 7
