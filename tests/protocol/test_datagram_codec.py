"""What holds for both forms of datagrams in a channel: batches in memory, and their limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.protocol.datagram_codec import MAX_HEAD, MAX_PAYLOAD, MAX_SOURCE, Run
from cotun_trio.protocol.datagram_runs import RunDecoder, RunEncoder
from cotun_trio.protocol.gob import Decoder
from cotun_trio.protocol.gob_encoder import Encoder
from tests.support.datagrams import Datagram, batch, decoded

if TYPE_CHECKING:
    from cotun_trio.protocol.datagram_codec import DatagramDecoder, DatagramEncoder

FORMS = pytest.mark.parametrize(
    ("encoder_of", "decoder_of"),
    [(Encoder, Decoder), (RunEncoder, RunDecoder)],
    ids=["gob", "runs"],
)
DATAGRAMS = st.lists(
    st.builds(
        Datagram,
        st.sampled_from(["127.0.0.1:50000", "[::1]:1", "", "a" * 130]),
        st.sampled_from([b"", b"x", bytes(64), bytes(64), bytes(127), bytes(128), bytes(300)]),
    ),
    max_size=20,
)


@FORMS
@given(datagrams=DATAGRAMS)
def test_a_batch_is_the_same_stream_as_one_datagram_after_the_other_has(
    encoder_of: type[DatagramEncoder],
    decoder_of: type[DatagramDecoder],
    datagrams: list[Datagram],
) -> None:
    one, other = encoder_of(), encoder_of()
    together = batch(one, datagrams)
    apart = b"".join(other.encode(d.source, d.payload) for d in datagrams)
    assert decoded(decoder_of(), together) == decoded(decoder_of(), apart) == datagrams
    if encoder_of is Encoder:
        assert together == apart
    # And the next one goes on where it was.
    assert one.encode("c:3", b"x") == other.encode("c:3", b"x")


@FORMS
@given(datagrams=DATAGRAMS, limit=st.integers(0, 1000))
def test_what_does_not_fit_changes_nothing(
    encoder_of: type[DatagramEncoder],
    decoder_of: type[DatagramDecoder],
    datagrams: list[Datagram],
    limit: int,
) -> None:
    encoder, decoder = encoder_of(), decoder_of()
    memory = memoryview(bytearray(limit + 2 * MAX_HEAD + 300))
    for _ in range(2):
        encoder.begin(memory, limit)
        fit = []
        for datagram in datagrams:
            size = len(datagram.payload)
            place = slice(encoder.place, encoder.place + size)
            memory[place] = datagram.payload
            if encoder.add(datagram.source, size):
                fit.append(datagram)
            else:
                assert place.start == encoder.place
                assert memory[place] == datagram.payload
        size = encoder.end()
        assert size <= limit
        assert decoded(decoder, bytes(memory[:size])) == fit


@FORMS
@pytest.mark.parametrize(
    ("source", "size"),
    [("s" * (MAX_SOURCE + 1), 0), ("ü" * MAX_SOURCE, 0), ("", MAX_PAYLOAD + 1)],
)
def test_nothing_is_sent_that_is_too_long_to_be_read(
    encoder_of: type[DatagramEncoder],
    decoder_of: type[DatagramDecoder],
    source: str,
    size: int,
) -> None:
    encoder = encoder_of()
    for _ in range(2):  # a source that is known or not
        with pytest.raises(ValueError, match="bytes"):
            encoder.encode(source, bytes(size))
        encoder.encode("", b"x")


def test_the_datagrams_of_a_run_are_given_one_by_one_whatever_its_pieces() -> None:
    run = Run("a:1", 2, 4, [b"01", memoryview(b"234567")])
    assert [bytes(data) for data in run.each()] == [b"01", b"23", b"45", b"67"]
    run.extend(Run("a:1", 2, 1, [b"89"]))
    assert (run.count, bytes(list(run.each())[-1])) == (5, b"89")
    assert list(Run("a:1", 0, 2, [b"", b""]).each()) == [b"", b""]
