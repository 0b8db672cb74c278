"""A request to a proxy of ours, in the same terms whichever protocol it came in.

The terms are those of SOCKS 5 (RFC 1928), which can say all that the others can, and which the two
ends of a tunnel speak to each other.
"""

from __future__ import annotations

import enum
import string
from typing import Protocol

import attrs

from cotun_trio.errors import ProtocolError
from cotun_trio.protocol.addresses import join_host_port


class Command(enum.IntEnum):
    """The command of a request (RFC 1928 section 4)."""

    CONNECT = 1
    BIND = 2
    UDP_ASSOCIATE = 3


class Reply(enum.IntEnum):
    """The code of the reply to a request (RFC 1928 section 6)."""

    SUCCEEDED = 0
    GENERAL_FAILURE = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    CONNECTION_REFUSED = 5
    TTL_EXPIRED = 6
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_TYPE_NOT_SUPPORTED = 8

    @property
    def text(self) -> str:
        """The code in words, for people."""
        return self.name.lower().replace("_", " ")


@attrs.frozen
class Request:
    """A client's request."""

    command: Command
    host: str
    """A name, or an address without brackets; always a valid host."""
    port: int
    """Not 0 for CONNECT.  For UDP ASSOCIATE, 0 says that the client does not know yet."""
    raw: bytes = attrs.field(repr=False)
    """The request in SOCKS 5, to be passed on: as it came, if it came so."""

    @property
    def address(self) -> str:
        """``host:port``."""
        return join_host_port(self.host, self.port)


class RequestError(ProtocolError):
    """A client did not get to a request that can be served.

    `reply` is the last thing to send to it, behind the bytes of `Handshake.take_out`; it is empty
    where the client speaks another protocol, and would not understand.
    """

    def __init__(self, text: str, reply: bytes = b"") -> None:
        super().__init__(text)
        self.reply = reply


class Handshake(Protocol):
    """The listening side's part of one conversation, up to the one request.

    Send what `take_out` returns after each `feed`, also after one that raises.
    """

    @property
    def rest(self) -> bytes:
        """The bytes behind the request, once there is one."""

    def feed(self, data: bytes) -> Request | None:
        """Take the next bytes; return the request that they complete, or None.

        Raises `RequestError`.  After that, and after the request, there is nothing more to feed.
        """

    def take_out(self) -> bytes:
        """Return the bytes that have to be sent to the client by now, once."""

    def reply(self, code: Reply, host: str = ..., port: int = ...) -> bytes:
        """Return the answer to the request; `host` and `port` are our end of the connection."""


def protocol_of(first: int) -> str:
    """Say what a client speaks that begins with the byte `first`, where that is not served."""
    if first == 4:
        return "the client speaks SOCKS 4"
    if chr(first) in string.ascii_uppercase:
        return "the client speaks HTTP"
    if first == 0x16:  # the content type of a handshake (RFC 8446 section 5.1)
        return "the client speaks TLS"
    return f"the client's first byte is {first}"
