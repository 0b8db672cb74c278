"""The packetizer: what one end packs the other unpacks, and nothing else is let through."""

from __future__ import annotations

import contextlib
import struct
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.errors import ProtocolError
from cotun_trio.ssh.packetizer import MAX_PACKET_BEFORE_LOGIN, TAG, Packetizer, RekeyLimit
from cotun_trio.ssh.scratch import MAX_PACKET, MAX_PACKET_IN, Scratch
from cotun_trio.websocket.frames import GO_FRAMES
from tests.support.ssh import plain_packet

KEY = bytes(range(16))
IV = b"fix!" + (7).to_bytes(8, "big")
SCRATCH = Scratch()

payload_lists = st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=6)


def make(*, iv: bytes = IV, limit: RekeyLimit | None = None, secure: bool = True) -> Packetizer:
    """Return a packetizer whose own packets it could read itself."""
    packetizer = Packetizer(SCRATCH, limit or RekeyLimit())
    if secure:
        packetizer.set_outbound_cipher(AESGCM(KEY), iv_out=iv, aead=True)
        packetizer.set_inbound_cipher(AESGCM(KEY), iv_in=iv, aead=True)
    return packetizer


def pack(payloads: list[bytes], *, secure: bool = True, iv: bytes = IV) -> bytes:
    packetizer = make(secure=secure, iv=iv)
    for payload in payloads:
        packetizer.send_payload(payload)
    return bytes(packetizer.out)


def unpack(
    data: bytes, *, secure: bool = True, step: int = 2**18, into: Packetizer | None = None
) -> list[bytes]:
    packetizer = into or make(secure=secure)
    payloads = []
    for at in range(0, len(data), step):
        packetizer.start_batch()
        payloads += [bytes(view) for view in packetizer.packets(memoryview(data[at : at + step]))]
    return payloads


def length_field(length: int) -> bytes:
    return struct.pack(">I", length)


secured = pytest.mark.parametrize("secure", [False, True], ids=["plain", "aes-gcm"])


@secured
@given(payloads=payload_lists, step=st.sampled_from([1, 2, 3, 7, 16, 61, 4096]))
def test_payloads_come_out_as_they_went_in_however_they_are_cut(
    secure: bool, payloads: list[bytes], step: int
) -> None:
    stream = pack(payloads, secure=secure)
    assert unpack(stream, secure=secure) == payloads
    assert unpack(stream, secure=secure, step=step) == payloads


@secured
def test_every_payload_size_gives_an_aligned_packet_with_enough_padding(secure: bool) -> None:
    for size in range(1, 70):
        packet = pack([b"x" * size], secure=secure)
        length = int.from_bytes(packet[:4], "big")
        # RFC 4253 section 6 and RFC 5647 section 7.2
        assert (length % 16 if secure else (length + 4) % 8) == 0
        assert length >= 12
        assert len(packet) == 4 + length + (TAG if secure else 0)
        assert length - 1 - size >= 4
        assert unpack(packet, secure=secure) == [b"x" * size]


@secured
def test_a_packet_of_the_largest_size_is_taken_and_one_block_more_is_not(secure: bool) -> None:
    block = 16 if secure else 8
    packetizer = make(secure=secure)
    largest = 35_000 - 35_000 % block - (0 if secure else 4)
    assert MAX_PACKET_BEFORE_LOGIN == 35_000
    payload = b"x" * (largest - 5)
    assert unpack(pack([payload], secure=secure), into=packetizer) == [payload]
    with pytest.raises(ProtocolError, match=str(largest + block)):
        list(packetizer.packets(memoryview(length_field(largest + block))))


def test_larger_packets_are_taken_once_the_limit_is_raised_to_that_of_a_logged_in_peer() -> None:
    packetizer = make()
    packetizer.trust_peer()
    payload = b"x" * (MAX_PACKET_IN - 5)
    assert unpack(pack([payload]), into=packetizer) == [payload]
    with pytest.raises(ProtocolError):
        list(packetizer.packets(memoryview(length_field(MAX_PACKET_IN + 16))))


@pytest.mark.parametrize("step", [1, 4])
@secured
@pytest.mark.parametrize(
    "length",
    [0, 1, 3, 4, 8, 11, 13, 15, 17, 2**31, 2**32 - 1, 2**32 - 16, 2**32 - 4, 35_008, 35_012],
)
def test_an_impossible_length_is_refused_when_its_four_bytes_are_there(
    secure: bool, length: int, step: int
) -> None:
    packetizer = make(secure=secure)
    with pytest.raises(ProtocolError, match=f"length {length}$"):
        unpack(length_field(length), into=packetizer, step=step)


def test_a_length_aligned_for_the_other_kind_of_packet_is_refused() -> None:
    for secure, length in ((False, 16), (False, 32), (True, 12), (True, 20), (True, 28)):
        with pytest.raises(ProtocolError, match="packet length"):
            unpack(length_field(length), secure=secure)


@pytest.mark.parametrize("padding", [0, 3, 11, 12, 15, 16, 255])
def test_a_padding_that_cannot_be_is_refused(padding: int) -> None:
    with pytest.raises(ProtocolError, match="padding"):
        unpack(length_field(12) + bytes((padding,)) + bytes(11), secure=False)


@pytest.mark.parametrize("padding", [0, 3, 15, 16, 255])
def test_a_padding_that_cannot_be_is_refused_inside_a_genuine_packet_too(padding: int) -> None:
    sealed = AESGCM(KEY).encrypt(IV, bytes((padding,)) + bytes(15), length_field(16))
    with pytest.raises(ProtocolError, match="padding"):
        unpack(length_field(16) + sealed)


def test_the_smallest_and_the_greatest_padding_are_taken() -> None:
    assert unpack(length_field(12) + b"\x04" + b"p" * 7 + bytes(4), secure=False) == [b"p" * 7]
    assert unpack(length_field(12) + b"\x0a" + b"p" + bytes(10), secure=False) == [b"p"]


def test_a_flipped_bit_anywhere_in_a_sealed_packet_is_noticed() -> None:
    stream = pack([b"payload", b"another one"])
    for at in range(len(stream)):
        for bit in (0, 7):
            tampered = bytearray(stream)
            tampered[at] ^= 1 << bit
            packetizer = make()
            got = []
            # A longer length may leave the packet incomplete: then more has to come.
            with pytest.raises(ProtocolError):
                got += unpack(bytes(tampered), into=packetizer)
                got += unpack(bytes(35_000), into=packetizer)
            assert got in ([], [b"payload"])


@pytest.mark.parametrize("change", ["swap", "repeat", "drop"])
def test_sealed_packets_cannot_be_reordered_repeated_or_left_out(change: str) -> None:
    one, two, three = (b"packet 1", b"packet 2", b"packet 3")
    stream = pack([one, two, three])
    size = len(stream) // 3
    first, second, third = (stream[i * size : (i + 1) * size] for i in range(3))
    order = {"swap": second + first, "repeat": first + first, "drop": first + third}[change]
    with pytest.raises(ProtocolError, match="integrity"):
        unpack(order)


def test_the_nonces_counter_wraps_without_touching_its_fixed_part() -> None:
    payloads = [b"one", b"two", b"three", b"four"]
    iv = b"fix!" + (2**64 - 2).to_bytes(8, "big")
    stream = pack(payloads, iv=iv)
    assert unpack(stream, into=make(iv=iv)) == payloads
    size = len(stream) // 4
    # What came after the wrap was sealed with the counter at 0.
    third = stream[2 * size : 3 * size]
    assert AESGCM(KEY).decrypt(b"fix!" + bytes(8), third[4:], third[:4])[1:6] == b"three"


def test_channel_data_wraps_the_counter_like_any_other_packet() -> None:
    iv = b"fix!" + (2**64 - 1).to_bytes(8, "big")
    packetizer, peer = make(iv=iv), make(iv=iv)
    for text in (b"before", b"after"):
        packetizer.data_slots(10, 100)[0][: len(text)] = text
        sealed = bytes(packetizer.seal_data(5, len(text)))
        assert unpack(sealed, into=peer) == [struct.pack(">BII", 94, 5, len(text)) + text]


# ---- held


@secured
@pytest.mark.parametrize("step", [1, 5, 2**18])
def test_held_keeps_all_that_arrives_and_loses_nothing(secure: bool, step: int) -> None:
    before, stop, after = [b"one", b"two"], b"stop", [b"three", b"four", b"five" * 100]
    stream = pack([*before, stop, *after], secure=secure)
    packetizer = make(secure=secure)
    got = []
    for at in range(0, len(stream), step):
        for view in packetizer.packets(memoryview(stream[at : at + step])):
            got.append(bytes(view))
            if got[-1] == stop:
                packetizer.hold()
    assert got == [*before, stop]
    packetizer.go_on()
    got = [bytes(view) for view in packetizer.packets(memoryview(b""))]
    assert got == after


def test_held_can_be_set_by_each_packet_that_was_kept() -> None:
    payloads = [b"one", b"two", b"three"]
    packetizer = make()
    packetizer.hold()
    assert unpack(pack(payloads), into=packetizer) == []
    got = []
    for _ in payloads:
        packetizer.go_on()
        for view in packetizer.packets(memoryview(b"")):
            got.append(bytes(view))
            packetizer.hold()
        assert packetizer.held
    assert got == payloads


@secured
def test_what_follows_is_joined_to_a_packet_that_was_kept_incomplete(secure: bool) -> None:
    payloads = [b"one", b"two" * 50, b"three"]
    stream = pack(payloads, secure=secure)
    for cut in range(1, len(stream)):
        packetizer = make(secure=secure)
        packetizer.hold()
        assert unpack(stream[:cut], into=packetizer) == []
        packetizer.go_on()
        assert unpack(stream[cut:], into=packetizer) == payloads


# ---- channel data


def data_payloads(recipient: int, data: bytes, most: int = 32768) -> list[bytes]:
    pieces = [data[at : at + most] for at in range(0, len(data), most)]
    return [struct.pack(">BII", 94, recipient, len(piece)) + piece for piece in pieces]


def fill(slots: list[memoryview], data: bytes) -> int:
    done = 0
    for slot in slots:
        part = data[done : done + len(slot)]
        slot[: len(part)] = part
        done += len(part)
    return done


AROUND = sorted(
    {1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 17, 100}
    | {n * 32768 + d for n in range(1, 9) for d in (-17, -1, 0, 1, 17)} - {8 * 32768 + 1}
)


@pytest.mark.parametrize("max_packet", [1, 1000, 32767, 32768, 65536, 2**32 - 1])
def test_sealed_channel_data_is_what_the_other_end_reads(max_packet: int) -> None:
    sender, receiver = make(), make()
    for size in AROUND:
        data = bytes(i * 7 & 255 for i in range(256)) * (size // 256 + 1)
        slots = sender.data_slots(size, max_packet)
        count = fill(slots, data[:size])
        assert 0 < count <= size
        assert all(len(slot) <= max_packet for slot in slots)
        sealed = bytes(sender.seal_data(9, count))
        assert unpack(sealed, into=receiver, step=2**17) == data_payloads(9, data[:count])
        if max_packet < 32768:
            assert count == min(size, max_packet)
        elif size <= 8 * 32768:
            assert count == size


@given(st.integers(1, 2**20), st.integers(1, 2**17))
def test_data_slots_never_give_more_room_than_was_asked_for(limit: int, max_packet: int) -> None:
    slots = [len(slot) for slot in make().data_slots(limit, max_packet)]
    assert 0 < sum(slots) <= limit
    assert max(slots) <= min(max_packet, 32768)
    assert all(size == 32768 for size, _next in pairwise(slots))


def test_fewer_bytes_than_the_slots_hold_can_be_sealed() -> None:
    sender, receiver = make(), make()
    for count in (1, 32768, 40_000):
        assert fill(sender.data_slots(100_000, 32768), b"a" * 100_000) == 100_000
        assert unpack(bytes(sender.seal_data(3, count)), into=receiver) == data_payloads(
            3, b"a" * count
        )


def test_a_full_packet_is_as_long_as_the_frames_for_a_go_peer_take_it_to_be() -> None:
    sender = make()
    fill(sender.data_slots(MAX_PACKET, MAX_PACKET), b"f" * MAX_PACKET)
    assert len(sender.seal_data(0, MAX_PACKET)) == sum(GO_FRAMES)


def test_channel_data_and_other_messages_can_take_turns() -> None:
    sender, receiver = make(), make()
    stream = b""
    expected = []
    for i in range(5):
        sender.send_payload(b"control %d" % i)
        stream += bytes(sender.out)
        sender.out.clear()
        fill(sender.data_slots(40_000, 32768), b"d" * 40_000)
        stream += bytes(sender.seal_data(i, 40_000))
        expected += [b"control %d" % i, *data_payloads(i, b"d" * 40_000)]
    assert unpack(stream, into=receiver, step=1000) == expected


# ---- validity, counting


def test_payloads_stay_valid_until_the_next_batch_begins() -> None:
    payloads = [bytes((i,)) * 1000 for i in range(1, 20)]
    stream = pack(payloads)
    packetizer = make()
    packetizer.start_batch()
    views = []
    for at in range(0, len(stream), 777):  # several calls in one batch
        views += list(packetizer.packets(memoryview(stream[at : at + 777])))
    assert [bytes(view) for view in views] == payloads


def test_the_largest_read_behind_the_largest_carried_packet_fits_the_area() -> None:
    packetizer = make()
    packetizer.trust_peer()
    sizes = [MAX_PACKET_IN - 5, 100_000, 100_000]
    stream = pack([b"x" * size for size in sizes])
    assert unpack(stream[: MAX_PACKET_IN + 19], into=packetizer) == []
    packetizer.start_batch()
    rest = memoryview(stream[MAX_PACKET_IN + 19 :])
    assert [len(view) for view in packetizer.packets(rest)] == sizes


def test_the_sequence_number_counts_packets_and_wraps() -> None:
    packetizer = make(secure=False)
    packetizer.sequence_in = 2**32 - 1
    assert unpack(plain_packet(b"x"), into=packetizer) == [b"x"]
    assert packetizer.sequence_in == 0
    unpack(plain_packet(b"x") * 3, into=packetizer)
    assert packetizer.sequence_in == 3
    packetizer.reset_seqno_in()
    assert packetizer.sequence_in == 0


@pytest.mark.parametrize("way", ["in", "out", "data"])
def test_a_rekey_is_due_after_so_many_packets_whichever_way_they_went(way: str) -> None:
    packetizer = make(limit=RekeyLimit(packets=10))
    stream = pack([b"x"] * 10)
    size = len(stream) // 10
    for i in range(10):
        assert not packetizer.need_rekey()
        if way == "in":
            unpack(stream[i * size : (i + 1) * size], into=packetizer)
        elif way == "out":
            packetizer.send_payload(b"x")
        else:
            packetizer.seal_data(0, 1)
    assert packetizer.need_rekey()


@pytest.mark.parametrize("way", ["in", "out", "data"])
def test_a_rekey_is_due_after_so_many_bytes_whichever_way_they_went(way: str) -> None:
    packetizer = make(limit=RekeyLimit(bytes=100_000))
    stream = pack([b"x" * 9_995] * 10)
    size = len(stream) // 10
    for i in range(10):
        assert not packetizer.need_rekey(), i
        if way == "in":
            unpack(stream[i * size : (i + 1) * size], into=packetizer)
        elif way == "out":
            packetizer.send_payload(b"x" * 9_995)
        else:
            packetizer.seal_data(0, 9_980)
    assert packetizer.need_rekey()


def test_new_keys_begin_the_count_again() -> None:
    packetizer = make(limit=RekeyLimit(packets=1))
    packetizer.send_payload(b"x")
    assert packetizer.need_rekey()
    packetizer.set_outbound_cipher(AESGCM(KEY), iv_out=IV, aead=True)
    assert not packetizer.need_rekey()


def test_keys_may_change_between_two_packets_of_one_read() -> None:
    sender, receiver = make(secure=False), make(secure=False)
    sender.send_payload(b"newkeys")
    sender.set_outbound_cipher(AESGCM(KEY), iv_out=IV, aead=True)
    sender.send_payload(b"sealed")
    for step in (1, 2**18):
        receiver = make(secure=False)
        got = []
        for at in range(0, len(sender.out), step):
            for view in receiver.packets(memoryview(bytes(sender.out[at : at + step]))):
                got.append(bytes(view))
                if got[-1] == b"newkeys":
                    receiver.set_inbound_cipher(AESGCM(KEY), iv_in=IV, aead=True)
        assert got == [b"newkeys", b"sealed"]


@given(st.binary(max_size=200))
def test_random_bytes_never_come_out_as_a_payload_of_a_sealed_stream(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert unpack(data) == []
