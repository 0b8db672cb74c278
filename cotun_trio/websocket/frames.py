"""WebSocket data frames (RFC 6455 section 5), sans-I/O.

`FrameFilter` takes the payload of data frames out of a byte stream and returns the control frames
that need an answer, whole and unchanged, for its caller to handle: the last ping (section 5.5.3
allows to answer only that) and the close frame.  We send no pings, so that every pong is an
unsolicited one, which needs none.  It is a full receiver for data frames: masking rule, reserved
bits and opcodes, shortest length encodings, fragments with control frames between them, and a limit
on the size of a message.  Each error raises `FrameError`, which carries the close code that RFC
6455 section 7.4.1 has for it.

Frames are work, even empty ones: the filter stops where the budget of the turn is spent,
and keeps the rest for the next call.

A design note: handing malformed frames on to trio-websocket, so that it fails the connection, was
tried on paper and dropped.  It has not seen the fragments before them, so it would take some
malformed frames for well-formed ones.
"""

from __future__ import annotations

import os
import struct
from itertools import cycle
from typing import TYPE_CHECKING

from cotun_trio.budget import FRAME, REQUEST, Budget
from cotun_trio.errors import ProtocolError

try:
    from websockets.speedups import apply_mask
except ImportError:  # no C extension for this platform: the same in Python
    from websockets.utils import apply_mask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_MESSAGE_BEFORE_LOGIN = 512 * 1024
"""Bytes of payload in a message of a peer that has not logged in."""
MAX_MESSAGE = 1024 * 1024
"""The same after the login."""
FRAMES = (MAX_MESSAGE,)
"""Bytes of payload in the frames that we send, in turn: all bytes that are sent at once are one.
Frames of 64 KiB cost a tenth of the throughput upwards, and a fifth downwards."""
GO_FRAMES = (4096, 28_708)
"""The same for a Go peer: a full SSH packet in two frames, cut where its own buffer ends.  It
copies the part of a message that it does not want at once: this saves it 15 % of its time."""

PROTOCOL_ERROR = 1002
UNSUPPORTED_DATA = 1003
INVALID_PAYLOAD = 1007
POLICY_VIOLATION = 1008
TOO_BIG = 1009
BAD_GATEWAY = 1014
_CODES = (range(1000, 1004), range(1007, BAD_GATEWAY + 1), range(3000, 5000))
"""Close codes that an end may send (RFC 6455 section 7.4, and IANA's registry of them)."""

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = _OPCODES = (0, 1, 2, 8, 9, 10)
_FIN, _OPCODE, _MASKED, _LENGTH = 0x80, 0x0F, 0x80, 0x7F
_FIRST_BYTES = frozenset(fin | opcode for fin in (0, _FIN) for opcode in _OPCODES)
"""First bytes of a frame without a reserved bit or opcode."""
_LONGEST_CONTROL = 125
"""Bytes of payload in a control frame; also the longest length that fits its first field."""
_LONGEST_HEAD = 14
_SMALL_HEAD = 6
"""Bytes of the header of a masked frame with up to `_LONGEST_CONTROL` bytes; two without a mask."""
_DRAWN = 1024
"""Random bytes drawn at once: to ask the system for each mask costs 2 % of a bulk upload."""
_NOTHING = memoryview(b"")
_U16 = struct.Struct(">H")
_U64 = struct.Struct(">Q")


class FrameError(ProtocolError):
    """An error of the peer by RFC 6455; `code` is its close code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"WebSocket: {reason}")
        self.code = code
        self.reason = reason


class FrameFilter:
    """Splits the bytes of one peer; `from_client` says that it is a client."""

    def __init__(self, *, from_client: bool) -> None:
        self.max_message = MAX_MESSAGE_BEFORE_LOGIN
        """Bytes of payload that one message may have, all of its fragments together."""
        self.budget = Budget()
        """The work that a call of `feed` may do; the receiver of the payload begins its turns."""
        self.unfinished = False
        """Whether there is a rest for the next `feed`, which needs no more data then."""
        self._from_client = from_client
        self._kept = _NOTHING  # an incomplete frame header or control frame, or the rest of a turn
        self._remaining = 0  # payload bytes of the present data frame still to come
        self._key = b""  # its mask, turned to the next byte
        self._message_size: int | None = None  # of the message whose frames are coming
        self.closed = False
        """Whether a close frame has come.  Nothing behind it counts (RFC 6455 section 5.5.1)."""
        self.close_code: int | None = None
        """The code in it, if there is one."""

    def use_budget(self, budget: Budget) -> None:
        """Share the budget of the payload's receiver, which begins its turns."""
        self.budget = budget

    def trust_peer(self) -> None:
        """Take larger messages: the peer has logged in."""
        self.max_message = MAX_MESSAGE

    def feed(self, data: memoryview, sink: Callable[[memoryview], None]) -> bytes:
        """Pass the payload in `data` to `sink`, and return the control frames that need an answer.

        `sink` may be called several times; the memory that it gets is valid during the call, and
        longer if `data` is.  Raises `FrameError`; nothing can follow that.
        """
        kept = self._kept
        if kept:
            data = memoryview(b"".join((kept, data))) if data else kept
            self._kept = _NOTHING
        elif len(data) <= _LONGEST_CONTROL and self._pass_one_frame(data, sink):
            return b""
        self.unfinished = False
        at, ping, close = self._split(data, sink)
        if at < len(data) and not self.closed:
            self.unfinished = self.budget.left <= 0
            # Bytes that were kept before are ours already, and not copied again.
            self._kept = data[at:] if kept else memoryview(bytes(data[at:]))
        if not (ping or close):
            return b""
        if ping:
            self.budget.waste(REQUEST)
        return bytes(ping) + close

    def _split(
        self, data: memoryview, sink: Callable[[memoryview], None]
    ) -> tuple[int, memoryview, memoryview]:
        """Process `data` as far as the budget goes.

        Return the number of bytes that are done, the last ping and the close frame, if any.
        """
        budget = self.budget
        ping = close = _NOTHING
        at, end = 0, len(data)
        while at < end and budget.left > 0 and not self.closed:
            if self._remaining:
                at += self._pass_payload(data[at : at + self._remaining], sink)
                continue
            size, is_control = self._read_head(data[at : at + _LONGEST_HEAD])
            if not size or (is_control and end - at < size):
                break
            budget.left -= FRAME
            if is_control:
                budget.wasted += FRAME
                opcode = data[at] & _OPCODE
                if opcode == _PING:
                    ping = data[at : at + size]
                elif opcode == _CLOSE:
                    close = data[at : at + size]
                    self.close_code = self._check_close(close)
                    self.closed = True
            elif not self._remaining:
                budget.wasted += FRAME
            at += size
        return at, ping, close

    def _check_close(self, frame: memoryview) -> int | None:
        """Return the code in a close frame, if it has one (RFC 6455 section 5.5.1)."""
        size = frame[1] & _LENGTH
        payload = bytes(frame[len(frame) - size :])
        if not payload:
            return None
        if self._from_client:
            payload = apply_mask(payload, self._key)
        code = int.from_bytes(payload[:2], "big")
        if size < 2 or not any(code in codes for codes in _CODES):
            raise FrameError(PROTOCOL_ERROR, "a close frame without a valid code")
        try:
            payload[2:].decode()
        except UnicodeDecodeError:
            raise FrameError(INVALID_PAYLOAD, "a close frame whose reason is not UTF-8") from None
        return code

    def _pass_one_frame(self, data: memoryview, sink: Callable[[memoryview], None]) -> bool:
        """Pass on the payload of one short binary message, if `data` is that and no more.

        It may be a keystroke or a small request: 1.5 µs less than the long way.
        """
        size = len(data)
        if (
            size <= _SMALL_HEAD
            or data[0] != _FIN | _BINARY
            or data[1] != (size - _SMALL_HEAD | _MASKED if self._from_client else size - 2)
            or self._remaining
            or self._message_size is not None
            or self.closed
        ):
            return False
        self.budget.left -= FRAME
        if self._from_client:
            sink(memoryview(apply_mask(data[_SMALL_HEAD:], bytes(data[2:_SMALL_HEAD]))))
        else:
            sink(data[2:])
        return True

    def _pass_payload(self, chunk: memoryview, sink: Callable[[memoryview], None]) -> int:
        """Pass `chunk` of the present frame's payload on, unmasked; return its size."""
        size = len(chunk)
        self._remaining -= size
        if self._from_client:
            key = self._key
            chunk = memoryview(apply_mask(chunk, key))
            if turn := size & 3:
                self._key = key[turn:] + key[:turn]
        sink(chunk)
        return size

    def _read_head(self, head: memoryview) -> tuple[int, bool]:
        """Begin the frame that starts with `head`.

        Return its header's size (for a control frame, the size of all of it; 0 if `head` is too
        short to tell), and whether it is a control frame.
        """
        if len(head) < 2:
            return 0, False
        opcode, length, size = head[0] & _OPCODE, head[1] & _LENGTH, 2
        is_control = opcode >= _CLOSE
        if head[0] not in _FIRST_BYTES:
            raise FrameError(PROTOCOL_ERROR, "a reserved bit or opcode")
        if bool(head[1] & _MASKED) != self._from_client:
            raise FrameError(PROTOCOL_ERROR, "a client must mask its frames and a server must not")
        if is_control and (length > _LONGEST_CONTROL or not head[0] & _FIN):
            raise FrameError(PROTOCOL_ERROR, "a control frame that is long or in fragments")
        if length > _LONGEST_CONTROL:
            size, number, least = (4, _U16, 126) if length == 126 else (10, _U64, 65536)
            if len(head) < size:
                return 0, False
            length = number.unpack_from(head, 2)[0]
            if not least <= length < 2**63:
                raise FrameError(PROTOCOL_ERROR, "a length that is not in its shortest form")
        if self._from_client:
            size += 4
            if len(head) < size:
                return 0, False
            self._key = bytes(head[size - 4 : size])
        if is_control:
            return size + length, True
        self._begin_data(opcode, length, final=bool(head[0] & _FIN))
        return size, False

    def _begin_data(self, opcode: int, length: int, *, final: bool) -> None:
        before = self._message_size
        if opcode == _CONTINUATION:
            if before is None:
                raise FrameError(PROTOCOL_ERROR, "a continuation of nothing")
        elif before is not None:
            raise FrameError(PROTOCOL_ERROR, "a message inside another one")
        elif opcode == _TEXT:
            raise FrameError(UNSUPPORTED_DATA, "a text message")
        size = (before or 0) + length
        if size > self.max_message:
            raise FrameError(TOO_BIG, f"a message of over {self.max_message} bytes")
        self._message_size = None if final else size
        self._remaining = length


def frame_head(size: int, key: bytes | None) -> bytes:
    """Return the header of a binary message in one frame; with a mask `key`, a client's."""
    masked = 0 if key is None else _MASKED
    if size < 126:
        head = bytes((_FIN | _BINARY, masked | size))
    elif size < 65536:
        head = bytes((_FIN | _BINARY, masked | 126)) + _U16.pack(size)
    else:
        head = bytes((_FIN | _BINARY, masked | 127)) + _U64.pack(size)
    return head if key is None else head + key


class Framer:
    """Makes the frames of one end; `mask` says that it is a client."""

    def __init__(self, *, mask: bool) -> None:
        self.sizes: Sequence[int] = FRAMES
        """Bytes of payload in the frames of one piece, in turn."""
        self._mask = mask
        self._drawn = b""  # for masks to come

    def cut_for_go(self) -> None:
        """Make frames as a Go peer reads them best."""
        self.sizes = GO_FRAMES

    def small(self, data: memoryview | bytearray) -> bytes:
        """Return `data`, which fits one frame, as one binary message."""
        if not self._mask:
            return frame_head(len(data), None) + data
        key = self._new_key()
        return frame_head(len(data), key) + apply_mask(data, key)

    def frames(self, data: memoryview | bytearray) -> list[bytes | memoryview]:
        """Return `data` as binary messages, in pieces for a gathering write."""
        parts: list[bytes | memoryview] = []
        view = memoryview(data)
        at, end = 0, len(view)
        for size in cycle(self.sizes):
            if at >= end:
                break
            chunk = view[at : at + size]
            at += size
            if self._mask:
                key = self._new_key()
                parts += (frame_head(len(chunk), key), apply_mask(chunk, key))
            else:
                parts += (frame_head(len(chunk), None), chunk)
        return parts

    def _new_key(self) -> bytes:
        """Return a mask that nobody can predict (RFC 6455 section 5.3)."""
        drawn = self._drawn or os.urandom(_DRAWN)
        self._drawn = drawn[4:]
        return drawn[:4]


def close_frame(code: int, reason: str, *, mask: bool) -> bytes:
    """Return a close frame (RFC 6455 section 5.5.1); `reason` is cut to fit."""
    # Cut between two characters: a text that is not UTF-8 would be an error of ours.
    text = reason.encode()[: _LONGEST_CONTROL - 2].decode("utf-8", "ignore")
    payload = _U16.pack(code) + text.encode()
    head = bytes((_FIN | _CLOSE, len(payload) | (_MASKED if mask else 0)))
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + apply_mask(payload, key)
