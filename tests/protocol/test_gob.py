"""UDP in a channel, held against the gob streams that Go writes.

`tests/vectors/gob_udp.json` has the recordings.  What Go never sent here but may, such as other
type ids and fields, is written by the few lines of gob below.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.errors import ProtocolError
from cotun_trio.protocol.datagram_codec import MAX_PAYLOAD, MAX_SOURCE
from cotun_trio.protocol.gob import MAX_DEFINITION, MAX_MESSAGE, Decoder
from cotun_trio.protocol.gob_encoder import Encoder
from tests.support.datagrams import Datagram, batch, bytewise, cut, datagrams_in
from tests.support.datagrams import decoded as decoded_by
from tests.support.datagrams import outcome as outcome_of

VECTORS = Path(__file__).parents[1] / "vectors"
STREAMS: list[dict[str, Any]] = json.loads((VECTORS / "gob_udp.json").read_text())["streams"]

by_stream = pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream["name"])


def datagrams(stream: dict[str, Any]) -> list[Datagram]:
    return [
        Datagram(packet["src"], bytes.fromhex(packet["payload_hex"]))
        for packet in stream["packets"]
    ]


def wire(stream: dict[str, Any]) -> bytes:
    return bytes.fromhex("".join(packet["wire_hex"] for packet in stream["packets"]))


def decoded(*pieces: bytes) -> list[Datagram]:
    return decoded_by(Decoder(), *pieces)


# A little gob

BOOL, INT, UINT, FLOAT, BYTES, STRING, COMPLEX, INTERFACE = range(1, 9)
SRC, PAYLOAD = ("Src", STRING), ("Payload", BYTES)


def uint(value: int) -> bytes:
    if value < 128:
        return bytes([value])
    raw = value.to_bytes((value.bit_length() + 7) // 8)
    return bytes([256 - len(raw)]) + raw


def sint(value: int) -> bytes:
    return uint(2 * value if value >= 0 else -2 * value - 1)


def string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return uint(len(raw)) + raw


def message(body: bytes) -> bytes:
    return uint(len(body)) + body


def definition(
    *fields: tuple[str, int], type_id: int = 64, common: bytes = b"\x01\x01X\x00"
) -> bytes:
    listed = b"".join(
        b"\x01" + string(name) + b"\x01" + sint(kind) + b"\0" for name, kind in fields
    )
    struct = b"\x01" + common + b"\x01" + uint(len(fields)) + listed + b"\0"
    return message(sint(-type_id) + b"\x03" + struct + b"\0")


def value(body: bytes, type_id: int = 64) -> bytes:
    return message(sint(type_id) + body)


DEFINITION = definition(SRC, PAYLOAD)
HELLO = value(b"\x01" + string("a:1") + b"\x01" + string("hello") + b"\0")


def test_the_little_gob_in_here_is_that_of_go() -> None:
    recorded = wire(STREAMS[0])[:43]
    name_and_id = b"\x01" + string("udpPacket") + b"\x01" + sint(64) + b"\0"
    assert definition(SRC, PAYLOAD, common=name_and_id) == recorded
    assert decoded(DEFINITION + HELLO) == [Datagram("a:1", b"hello")]


# What Go writes


@by_stream
def test_a_stream_has_the_bytes_that_go_writes(stream: dict[str, Any]) -> None:
    encoder = Encoder()
    for packet, datagram in zip(stream["packets"], datagrams(stream), strict=True):
        assert encoder.encode(datagram.source, datagram.payload).hex() == packet["wire_hex"]


@by_stream
def test_a_stream_of_go_is_read_whole(stream: dict[str, Any]) -> None:
    assert decoded(wire(stream)) == datagrams(stream)


@by_stream
def test_a_stream_of_go_is_read_byte_by_byte(stream: dict[str, Any]) -> None:
    assert decoded(*bytewise(wire(stream))) == datagrams(stream)


def test_the_largest_datagram_of_ipv4_has_the_bytes_that_go_writes() -> None:
    # The packet that the recording lost when it was trimmed.
    payload = bytes((i * 7 + 3) & 0xFF for i in range(65507))
    encoder = Encoder()
    encoder.encode("", b"")
    recorded = bytes.fromhex("fefffaff80010e3132372e302e302e313a3530303001feffe3") + payload + b"\0"
    assert encoder.encode("127.0.0.1:5000", payload) == recorded


def test_the_definition_may_come_in_a_read_of_its_own() -> None:
    decoder = Decoder()
    assert list(datagrams_in(decoder, DEFINITION)) == []
    assert list(datagrams_in(decoder, HELLO)) == [Datagram("a:1", b"hello")]


def test_a_datagram_is_there_with_its_last_byte_and_not_before() -> None:
    decoder = Decoder()
    assert list(datagrams_in(decoder, DEFINITION + HELLO[:-1])) == []
    assert list(datagrams_in(decoder, HELLO[-1:] + HELLO[:3])) == [Datagram("a:1", b"hello")]
    assert list(datagrams_in(decoder, HELLO[3:])) == [Datagram("a:1", b"hello")]


def test_no_more_is_taken_than_was_asked_for() -> None:
    decoder = Decoder()
    stream = memoryview(DEFINITION + HELLO * 4 + HELLO[:3])
    taken = []
    for most in (1, 1, 64):
        run, size = decoder.read(stream, most)
        assert run is not None
        assert list(run.each()) == [b"hello"] * run.count
        taken.append((run.count, size))
        stream = stream[size:]
    assert taken == [(1, len(DEFINITION + HELLO)), (1, len(HELLO)), (2, 2 * len(HELLO))]
    assert decoder.read(stream, 64) == (None, 3)
    run, size = decoder.read(memoryview(HELLO[3:] + HELLO), 1)
    assert run is not None
    assert (run.count, size) == (1, len(HELLO) - 3)


# What Go may write


@pytest.mark.parametrize("type_id", [1, 63, 64, 65, 66, 127, 128, 8192, 2**31, 2**62])
def test_the_type_id_is_that_of_the_definition(type_id: int) -> None:
    first = value(b"\x01" + string("a:1") + b"\0", type_id)
    assert decoded(definition(SRC, PAYLOAD, type_id=type_id) + first) == [Datagram("a:1", b"")]
    with pytest.raises(ProtocolError, match="not defined"):
        decoded(definition(SRC, PAYLOAD, type_id=type_id + 1) + first)


def test_fields_are_known_by_their_names_whatever_their_order() -> None:
    both = value(b"\x01" + string("hello") + b"\x01" + string("a:1") + b"\0")
    only_source = value(b"\x02" + string("a:1") + b"\0")
    assert decoded(definition(PAYLOAD, SRC) + both + only_source) == [
        Datagram("a:1", b"hello"),
        Datagram("a:1", b""),
    ]


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (BOOL, b"\x01"),
        (INT, sint(-(2**63))),
        (UINT, uint(2**64 - 1)),
        (FLOAT, uint(0x3FF)),
        (BYTES, string(b"\xff" * 300)),
        (STRING, string("")),
        (COMPLEX, uint(0x40) + uint(0x3FF)),
    ],
)
def test_unknown_fields_of_basic_types_are_skipped(kind: int, raw: bytes) -> None:
    full = b"\x01" + raw + b"\x01" + string("a:1") + b"\x01" + raw + b"\x01" + string("x") + b"\0"
    stream = definition(("New", kind), SRC, ("Newer", kind), PAYLOAD) + value(full) + value(b"\0")
    assert decoded(stream) == [Datagram("a:1", b"x"), Datagram("", b"")]


def test_zeros_that_are_not_left_out_do_no_harm() -> None:
    assert decoded(DEFINITION + value(b"\x01\0\x01\0\0")) == [Datagram("", b"")]


def test_numbers_may_take_more_bytes_than_they_need() -> None:
    length, type_id = b"\xfe\x00\x0a", b"\xf8" + b"\0" * 7 + b"\x80"  # 10 and 64
    assert decoded(DEFINITION + length + type_id + b"\0") == [Datagram("", b"")]


# What is wrong

WRONG: dict[str, bytes] = {
    "an empty message": b"\0",
    "a value before the definition": HELLO,
    "a value of another type": DEFINITION + value(b"\0", 65),
    "a second definition": DEFINITION + DEFINITION,
    "a second type": DEFINITION + definition(SRC, PAYLOAD, type_id=65),
    "a slice, with the fields of a struct": DEFINITION.replace(b"\x7f\x03", b"\x7f\x02"),
    "no type at all": message(sint(-64) + b"\0"),
    "a wireType with too many fields": message(sint(-64) + b"\x08\0"),
    "a struct without fields": definition(),
    "no payload": definition(SRC),
    "no source": definition(PAYLOAD),
    "names in other case": definition(("src", STRING), ("payload", BYTES)),
    "a source that is a number": definition(("Src", INT), PAYLOAD),
    "a payload that is a string": definition(SRC, ("Payload", STRING)),
    "a name twice": definition(SRC, PAYLOAD, SRC),
    "a name that is not UTF-8": definition(SRC, PAYLOAD).replace(b"Src", b"S\xffc"),
    "an unknown field of no basic type": definition(SRC, PAYLOAD, ("X", INTERFACE))
    + value(b"\x03\x01\0"),
    "bytes behind the definition": message(DEFINITION[1:] + b"\0"),
    "bytes behind a value": DEFINITION + value(b"\0\0"),
    "a value without an end": DEFINITION + value(b"\x01" + string("a:1")),
    "a value without anything": DEFINITION + value(b""),
    "a field beyond the last": DEFINITION + value(b"\x03\0\0"),
    "a field far beyond the last": DEFINITION + value(uint(2**64 - 1) + b"\0"),
    "a string beyond the message": DEFINITION + value(b"\x01\x05a:1\0"),
    "a huge string": DEFINITION + value(b"\x01" + uint(2**63) + b"\0"),
    "a source that is not UTF-8": DEFINITION + value(b"\x01\x01\xff\0"),
    "a source that is too long": DEFINITION + value(b"\x01" + string("a" * 257) + b"\0"),
    "a payload that is too long": DEFINITION + value(b"\x02" + string(b"a" * 65528) + b"\0"),
    "a number of nine bytes": b"\xf7",
    "a number of 128 bytes": b"\x80",
    "a number of 128 bytes in a value": DEFINITION + value(b"\x01\x80" + b"x" * 128 + b"\0"),
    "a number of nine bytes in a value": DEFINITION + value(b"\x01\xf7" + b"\0" * 20),
    "a definition that is too long": definition(SRC, PAYLOAD, ("x" * MAX_DEFINITION, INT)),
    "SSH": b"SSH-2.0-x\r\n" * 20,
    "HTTP": b"GET / HTTP/1.1\r\n\r\n" * 20,
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
def test_what_is_no_stream_of_datagrams_is_a_protocol_error(data: bytes) -> None:
    for pieces in ([data], bytewise(data)):
        with pytest.raises(ProtocolError, match=r"^UDP stream: ") as caught:
            decoded(*pieces)
        assert str(caught.value).isprintable()


def test_foreign_names_are_escaped_in_an_error() -> None:
    with pytest.raises(ProtocolError, match=r"its fields: a\\x1b\[2J, b\\n"):
        decoded(definition(("a\x1b[2J", INT), ("b\n", INT)))


def test_what_came_before_the_error_is_delivered() -> None:
    found = datagrams_in(Decoder(), DEFINITION + HELLO + b"\0")
    assert next(found) == Datagram("a:1", b"hello")
    with pytest.raises(ProtocolError):
        next(found)


# Limits


def test_the_largest_datagram_with_the_longest_source_passes() -> None:
    largest = Datagram("s" * MAX_SOURCE, b"p" * MAX_PAYLOAD)
    assert decoded(Encoder().encode(largest.source, largest.payload)) == [largest]


@pytest.mark.parametrize("size", [MAX_MESSAGE + 1, 2**31, 2**64 - 1])
def test_a_message_that_is_too_long_is_refused_by_its_length_alone(size: int) -> None:
    with pytest.raises(ProtocolError, match=f"a message of {size} bytes"):
        decoded(DEFINITION + uint(size))


def test_a_message_of_the_greatest_length_is_waited_for() -> None:
    assert decoded(DEFINITION + uint(MAX_MESSAGE) + b"x" * (MAX_MESSAGE - 1)) == []


def test_a_definition_is_as_long_as_its_limit_and_no_longer() -> None:
    left = MAX_DEFINITION - (len(definition(SRC, PAYLOAD, ("", INT))) - 1) - 2  # for its length
    longest = definition(SRC, PAYLOAD, ("x" * left, INT))
    assert longest.startswith(uint(MAX_DEFINITION))
    assert decoded(longest + HELLO) == [Datagram("a:1", b"hello")]
    with pytest.raises(ProtocolError, match="a definition of 1025 bytes"):
        decoded(definition(SRC, PAYLOAD, ("x" * (left + 1), INT)))


def test_a_count_of_fields_without_the_fields_costs_nothing() -> None:
    with pytest.raises(ProtocolError, match="ends too early"):
        decoded(message(sint(-64) + b"\x03\x02" + uint(2**64 - 1)))


def test_no_more_than_one_message_is_kept() -> None:
    decoder = Decoder()
    stream = DEFINITION + HELLO * 50
    for start in range(0, len(stream), 7):
        for _ in datagrams_in(decoder, stream[start : start + 7]):
            pass
        assert len(decoder._buffer) <= max(len(DEFINITION), len(HELLO))


@pytest.mark.slow
def test_time_is_linear_in_the_number_of_messages_and_of_pieces() -> None:
    # What takes quadratic time here takes minutes.
    assert len(decoded(DEFINITION + HELLO * 60_000)) == 60_000
    large = value(b"\x02" + string(b"x" * 60_000) + b"\0")
    assert len(decoded(DEFINITION, *bytewise(large))) == 1


# Properties

DATAGRAMS = st.lists(
    st.builds(Datagram, st.text(max_size=60), st.binary(max_size=300)), min_size=1, max_size=5
)


def encoded(packets: Iterable[Datagram]) -> bytes:
    encoder = Encoder()
    return b"".join(encoder.encode(packet.source, packet.payload) for packet in packets)


def by_hand(packet: Datagram) -> bytes:
    """Return a value as Go writes it, by the little gob in here."""
    body = b"\x01" + string(packet.source) if packet.source else b""
    if packet.payload:
        body += (b"\x01" if packet.source else b"\x02") + string(packet.payload)
    return value(body + b"\0")


@given(DATAGRAMS, st.integers(1, 3))
def test_a_batch_has_the_bytes_that_go_writes(packets: list[Datagram], times: int) -> None:
    packets = [packet for packet in packets for _ in range(times)]
    expected = wire(STREAMS[0])[:43] + b"".join(map(by_hand, packets))
    assert batch(Encoder(), packets) == encoded(packets) == expected


@given(DATAGRAMS, st.lists(st.integers(0, 5000)))
def test_datagrams_are_read_back_from_their_stream_however_it_is_cut(
    packets: list[Datagram], cuts: list[int]
) -> None:
    assert decoded(*cut(encoded(packets), cuts)) == packets


def outcome(pieces: Iterable[bytes]) -> tuple[list[Datagram], str]:
    """Return the datagrams in a stream, and what is wrong with it."""
    return outcome_of(Decoder(), pieces)


@given(DATAGRAMS, st.integers(0, 400), st.binary(max_size=4), st.integers(0, 3))
def test_a_damaged_stream_is_an_error_or_not_but_the_same_in_any_pieces(
    packets: list[Datagram], place: int, patch: bytes, removed: int
) -> None:
    stream = encoded(packets)
    place %= len(stream)
    damaged = stream[:place] + patch + stream[place + removed :]
    assert outcome([damaged]) == outcome(bytewise(damaged))


@given(st.binary())
def test_any_bytes_behind_a_definition_are_datagrams_or_a_protocol_error(data: bytes) -> None:
    for stream in (data, DEFINITION + data, DEFINITION + value(data)):
        assert outcome([stream]) == outcome(bytewise(stream))
