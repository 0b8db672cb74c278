"""SSH packets, before there are keys and behind their integrity check."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cotun_trio.ssh.packetizer import TAG, Packetizer, RekeyLimit
from cotun_trio.ssh.scratch import Scratch
from tests.fuzz import turns
from tests.fuzz.oracle import Program, Work, failed, same_however_cut

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuzz.oracle import Feed

_KEY, _IV = AESGCM(bytes(16)), bytes(12)
_SCRATCH = Scratch()
_SMALLEST = 16
"""Bytes of a packet, at the least."""
_HOLD = 50
"""The message behind which nothing more is split for a while, as behind a login."""


def run(data: bytes) -> None:
    """The first byte says whether there are keys; packets are made as `_stream` has them."""
    program = Program(data)
    sealed = bool(program.number() & 1)
    stream, plain = _stream(program) if sealed else (program.rest(), [])
    with Work(at_most=5000 + 100 * len(stream)):
        found = same_however_cut(lambda: _splitter(sealed=sealed), stream)
    payloads = [thing for thing in found if isinstance(thing, bytes)]
    assert all(payloads), "a payload without a type"
    assert len(payloads) * _SMALLEST <= len(stream)
    assert sum(map(len, payloads)) <= len(stream)
    if sealed:
        expected = [text[1 : len(text) - int.from_bytes(text[:1])] for text in plain]
        assert payloads == expected[: len(payloads)], "not what was sealed"
    if not failed(found):
        writer = _make(sealed=sealed)
        for payload in payloads:
            writer.send_payload(payload)
        again = list(turns.split(_make(sealed=sealed), bytes(writer.out)))
        assert again == payloads


def _make(*, sealed: bool) -> Packetizer:
    packetizer = Packetizer(_SCRATCH, RekeyLimit())
    if sealed:
        packetizer.set_inbound_cipher(_KEY, iv_in=_IV, aead=True)
        packetizer.set_outbound_cipher(_KEY, iv_out=_IV, aead=True)
    return packetizer


def _stream(program: Program) -> tuple[bytes, list[bytes]]:
    """Return packets that are sealed with the right key, and what is in them.

    There may be other bytes among them: nothing behind those can be opened.
    """
    stream, packets = b"", list[bytes]()
    while program:
        kind = program.number()
        if kind == 0xFF:
            stream += program.string()
            continue
        size = program.number()
        plain = program.take(size)
        if not kind & 0x80:
            plain = plain.ljust(-(-max(size, 16) // 16) * 16, b"\0")
        head = struct.pack(">I", len(plain))
        nonce = _IV[:4] + len(packets).to_bytes(8, "big")
        stream += head + _KEY.encrypt(nonce, plain, head)
        packets.append(plain)
    return stream, packets


def _splitter(*, sealed: bool) -> Feed:
    packetizer = _make(sealed=sealed)

    def feed(piece: bytes) -> Iterator[bytes]:
        yield from _split(packetizer, piece)
        while packetizer.held:
            packetizer.go_on()
            yield from _split(packetizer, b"")
        kept = len(packetizer._carry)
        assert kept <= packetizer.max_packet_in + 4 + TAG, f"{kept} bytes are kept"

    return feed


def _split(packetizer: Packetizer, piece: bytes) -> Iterator[bytes]:
    for payload in turns.split(packetizer, piece):
        if payload[0] == _HOLD:
            packetizer.hold()
        yield payload
