"""WebSocket frames made by hand, right ones and wrong ones, and read back by wsproto."""

from __future__ import annotations

import struct
from itertools import cycle
from typing import TYPE_CHECKING

import wsproto
from wsproto.connection import Connection as WsprotoConnection
from wsproto.connection import ConnectionType

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = b"\x12\x34\x56\x78"


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    key: bytes | None = None,
    form: int | None = None,
    claims: int | None = None,
) -> bytes:
    """Return a frame; with a mask `key`, a client's.

    `form` is the size of the length field in bits (7, 16, 64; by default the shortest), `claims` a
    length to write there which need not be that of the payload.
    """
    size = len(payload) if claims is None else claims
    form = form or (7 if size < 126 else 16 if size < 65536 else 64)
    masked = 0 if key is None else 0x80
    first = fin << 7 | reserved << 4 | opcode
    if form == 7:
        head = bytes((first, masked | size))
    elif form == 16:
        head = bytes((first, masked | 126)) + struct.pack(">H", size)
    else:
        head = bytes((first, masked | 127)) + struct.pack(">Q", size)
    return head + payload if key is None else head + key + xor(payload, key)


def xor(data: bytes, key: bytes) -> bytes:
    """Mask or unmask `data` (RFC 6455 section 5.3), the slow and obvious way."""
    return bytes(byte ^ mask for byte, mask in zip(data, cycle(key), strict=False))


def read_by_wsproto(data: bytes, *, from_client: bool) -> list[wsproto.events.Event]:
    """Return what wsproto makes of what one peer sent."""
    role = ConnectionType.SERVER if from_client else ConnectionType.CLIENT
    connection = WsprotoConnection(role)
    connection.receive_data(data)
    return list(connection.events())


def payload_of(events: Iterable[wsproto.events.Event]) -> bytes:
    """Return the bytes that the messages among `events` carry; all have to be binary."""
    parts = []
    for event in events:
        assert isinstance(event, wsproto.events.BytesMessage)
        parts.append(bytes(event.data))
    return b"".join(parts)
