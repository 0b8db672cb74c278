"""The messages of the SSH connection protocol (RFC 4254), written and read with exact lengths.

paramiko's ``Message`` reads zeros where a message is too short; `Reader` raises.  Data travels as
`memoryview`: the fields of a message are valid as long as the packet that it came in.
"""

from __future__ import annotations

import struct

from cotun_trio.errors import ProtocolError

DISCONNECT = 1
IGNORE = 2
UNIMPLEMENTED = 3
DEBUG = 4
SERVICE_REQUEST = 5
SERVICE_ACCEPT = 6
EXT_INFO = 7
KEXINIT = 20
NEWKEYS = 21
KEX_REPLY = 31
USERAUTH_REQUEST = 50
USERAUTH_FAILURE = 51
USERAUTH_SUCCESS = 52
USERAUTH_BANNER = 53
GLOBAL_REQUEST = 80
REQUEST_SUCCESS = 81
REQUEST_FAILURE = 82
CHANNEL_OPEN = 90
CHANNEL_OPEN_CONFIRMATION = 91
CHANNEL_OPEN_FAILURE = 92
CHANNEL_WINDOW_ADJUST = 93
CHANNEL_DATA = 94
CHANNEL_EXTENDED_DATA = 95
CHANNEL_EOF = 96
CHANNEL_CLOSE = 97
CHANNEL_REQUEST = 98
CHANNEL_SUCCESS = 99
CHANNEL_FAILURE = 100

# RFC 4253 section 11.1
DISCONNECT_PROTOCOL_ERROR = 2
DISCONNECT_BY_APPLICATION = 11
DISCONNECT_TOO_MANY_CONNECTIONS = 12
DISCONNECT_NO_MORE_AUTH_METHODS = 14

# RFC 4254 section 5.1
OPEN_PROHIBITED = 1
OPEN_CONNECT_FAILED = 2
OPEN_RESOURCE_SHORTAGE = 4
OPEN_GONE = 0xFE000001
"""The opener knows an old state: what it asks for was here, perhaps.  Of the range for private use;
only nodes of a fleet say it to each other."""

_U32 = struct.Struct(">I")
_TYPE_U32 = struct.Struct(">BI")
_TYPE_2U32 = struct.Struct(">BII")
_TYPE_4U32 = struct.Struct(">BIIII")


class Reader:
    """Reads the fields of one message in order (RFC 4251 section 5).

    Every method raises `ProtocolError` where the message ends too early.
    """

    __slots__ = ("_at", "_payload")

    def __init__(self, payload: memoryview) -> None:
        self._payload = payload
        self._at = 1  # behind the message type

    def skip(self, count: int) -> memoryview:
        """Return the next `count` bytes."""
        start, self._at = self._at, self._at + count
        if self._at > len(self._payload):
            raise ProtocolError(f"SSH message {self._payload[0]} is cut short")
        return self._payload[start : self._at]

    def u32(self) -> int:
        """Return an unsigned 32-bit number."""
        at, self._at = self._at, self._at + 4
        try:
            value: int = _U32.unpack_from(self._payload, at)[0]
        except struct.error:
            raise ProtocolError(f"SSH message {self._payload[0]} is cut short") from None
        return value

    def boolean(self) -> bool:
        """Return a truth value; any non-zero byte is true."""
        return self.skip(1)[0] != 0

    def string(self) -> memoryview:
        """Return a length-prefixed string."""
        return self.skip(self.u32())

    def text(self) -> str:
        """Return a string that has to be UTF-8."""
        try:
            return str(self.string(), "utf-8")
        except UnicodeDecodeError:
            raise ProtocolError(f"SSH message {self._payload[0]} holds invalid UTF-8") from None

    def rest(self) -> memoryview:
        """Return all that is left."""
        return self.skip(len(self._payload) - self._at)

    def end(self) -> None:
        """Check that nothing is left."""
        if self._at != len(self._payload):
            raise ProtocolError(f"SSH message {self._payload[0]} is longer than its fields")


def string(data: bytes) -> bytes:
    """Return `data` as an SSH string."""
    return _U32.pack(len(data)) + data


def about_channel(message_type: int, recipient: int) -> bytes:
    """Return a message with its channel as the only field: EOF, CLOSE, SUCCESS, FAILURE."""
    return _TYPE_U32.pack(message_type, recipient)


def window_adjust(recipient: int, count: int) -> bytes:
    """Return a CHANNEL_WINDOW_ADJUST."""
    return _TYPE_2U32.pack(CHANNEL_WINDOW_ADJUST, recipient, count)


def channel_open(kind: bytes, sender: int, window: int, max_packet: int, extra: bytes) -> bytes:
    """Return a CHANNEL_OPEN; `extra` is its type-specific data, raw."""
    head = bytes((CHANNEL_OPEN,)) + string(kind)
    return head + struct.pack(">III", sender, window, max_packet) + extra


def open_confirmation(recipient: int, sender: int, window: int, max_packet: int) -> bytes:
    """Return a CHANNEL_OPEN_CONFIRMATION."""
    return _TYPE_4U32.pack(CHANNEL_OPEN_CONFIRMATION, recipient, sender, window, max_packet)


def open_failure(recipient: int, code: int, reason: str) -> bytes:
    """Return a CHANNEL_OPEN_FAILURE."""
    head = _TYPE_2U32.pack(CHANNEL_OPEN_FAILURE, recipient, code)
    return head + string(reason.encode()) + string(b"")


def global_request(kind: bytes, payload: bytes, *, want_reply: bool) -> bytes:
    """Return a GLOBAL_REQUEST; `payload` is its request-specific data, raw."""
    return bytes((GLOBAL_REQUEST,)) + string(kind) + bytes((want_reply,)) + payload


def disconnect(code: int, reason: str) -> bytes:
    """Return a DISCONNECT (RFC 4253 section 11.1)."""
    return _TYPE_U32.pack(DISCONNECT, code) + string(reason.encode()) + string(b"")
