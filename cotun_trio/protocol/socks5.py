"""SOCKS 5 (RFC 1928) with user and password (RFC 1929): bytes in, meaning out.

A conversation has two or three turns and then belongs to the client's own protocol::

    client                                   server
    05 count methods            greeting
                                selection    05 method              (FF: none that will do)
    01 len user len password    login                               (method 2 only)
                                verdict      01 status              (0: come in)
    05 command 00 address       request
                                reply        05 code 00 address
    ─────────────── what the command asked for ───────────────

    address = type host port: 01 and 4 bytes, 04 and 16 bytes, or 03, a length and a name

`Socks5Handshake` takes the listening side's part up to the request, `reply` makes the answer.  To
pass a request on to another SOCKS server, send `greeting` and `Request.raw` (or a `request` of
one's own) in one go, and read the two answers with a `ReplyReader`.  Both take their input in
pieces of any size, and keep the bytes behind the message for the caller: each side may say
something early.
Datagrams through a UDP association have a `UdpHeader` each.

No number in here needs a limit of its own: a length is one byte everywhere.
"""

import enum
import hmac
import ipaddress

import attrs

from cotun_trio.errors import ProtocolError
from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import RemoteError, clean_host
from cotun_trio.protocol.proxy_request import Command, Reply, Request, RequestError, protocol_of
from cotun_trio.protocol.steps import StepReader, Steps

VERSION = 5
LOGIN_VERSION = 1
MAX_NAME = 255
"""Bytes of a name, a user or a password in SOCKS: its length is one byte."""
NO_HOST = "0.0.0.0"  # noqa: S104
"""The host in a reply that names none."""


class Method(enum.IntEnum):
    """The methods of authentication (RFC 1928 section 3)."""

    NO_LOGIN = 0
    PASSWORD = 2  # RFC 1929
    NONE = 0xFF


class AddressType(enum.IntEnum):
    """The kind of host in an address (RFC 1928 section 5)."""

    IPV4 = 1
    NAME = 3
    IPV6 = 4


class SocksError(RequestError):
    """A client of SOCKS did not get to a request that can be served."""

    def __init__(self, text: str, reply: bytes = b"") -> None:
        super().__init__(f"SOCKS: {text}", reply)


@attrs.frozen
class Answer:
    """A server's reply to a request."""

    code: Reply
    host: str
    """The server's end of the connection, or where to send datagrams; often just 0.0.0.0."""
    port: int


# Reading


class _BadAddress(RemoteError):
    """A bad address in a message: the reason in words, and the code of a server's reply."""

    def __init__(self, text: str, code: Reply) -> None:
        super().__init__(text)
        self.code = code


def _address() -> Steps[tuple[str, int, bytes]]:
    """Read an address (RFC 1928 section 5): the host, the port, and all the bytes."""
    raw = yield 1
    match raw[0]:
        case AddressType.IPV4:
            size = 4
        case AddressType.IPV6:
            size = 16
        case AddressType.NAME:
            raw += yield 1
            size = raw[1]
        case unknown:
            raise _BadAddress(f"address type {unknown}", Reply.ADDRESS_TYPE_NOT_SUPPORTED)
    octets = yield size
    port = yield 2
    host = _name(octets) if raw[0] == AddressType.NAME else str(ipaddress.ip_address(octets))
    return host, int.from_bytes(port), raw + octets + port


def _name(octets: bytes) -> str:
    # All 255 bytes may come, but no host has so long a name; an address in a name is fine.
    try:
        host = clean_host(octets.decode())
    except UnicodeDecodeError:
        raise _BadAddress(f"'{escape(octets)}' is not UTF-8", Reply.GENERAL_FAILURE) from None
    except RemoteError as error:
        raise _BadAddress(str(error), Reply.GENERAL_FAILURE) from None
    if not host:
        raise _BadAddress("the name of the host is empty", Reply.GENERAL_FAILURE)
    return host


class Socks5Handshake(StepReader[Request]):
    """See `cotun_trio.protocol.proxy_request.Handshake`."""

    def __init__(self, credentials: tuple[str, str] | None = None) -> None:
        """With `credentials`, a user and a password, each client has to give them."""
        self._credentials = credentials
        self._out = bytearray()
        super().__init__(self._talk())

    def take_out(self) -> bytes:
        """See `Handshake.take_out`."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def reply(self, code: Reply, host: str = NO_HOST, port: int = 0) -> bytes:
        """See `Handshake.reply`."""
        return reply(code, host, port)

    def _talk(self) -> Steps[Request]:
        (version,) = yield 1
        if version != VERSION:
            raise SocksError(f"{protocol_of(version)}, and this is SOCKS 5")
        (count,) = yield 1
        methods = yield count
        method = Method.NO_LOGIN if self._credentials is None else Method.PASSWORD
        if method not in methods:
            wanted = (
                "to go without a login" if method == Method.NO_LOGIN else "a user and a password"
            )
            raise SocksError(f"the client does not offer {wanted}", bytes([VERSION, Method.NONE]))
        self._out += bytes([VERSION, method])
        if self._credentials is not None:
            yield from self._log_in(*self._credentials)
        return (yield from self._read_request())

    def _log_in(self, right_user: str, right_password: str) -> Steps[None]:
        """Read a login (RFC 1929 section 2)."""
        refusal = bytes([LOGIN_VERSION, 1])
        (version,) = yield 1
        if version != LOGIN_VERSION:
            raise SocksError(f"version {version} of the login", refusal)
        (size,) = yield 1
        user = yield size
        (size,) = yield 1
        password = yield size
        # Both in any case, and each in a time that tells nothing.
        same_user = hmac.compare_digest(user, right_user.encode())
        same_password = hmac.compare_digest(password, right_password.encode())
        if not (same_user and same_password):
            raise SocksError(f"wrong user or password for '{escape(user)}'", refusal)
        self._out += bytes([LOGIN_VERSION, 0])

    def _read_request(self) -> Steps[Request]:
        """Read a request (RFC 1928 section 4).  Its reserved byte is not checked."""
        head = yield 3
        version, number, _ = head
        if version != VERSION:
            raise SocksError(f"version {version} in the request", reply(Reply.GENERAL_FAILURE))
        try:
            command = Command(number)
        except ValueError:
            raise SocksError(f"command {number}", reply(Reply.COMMAND_NOT_SUPPORTED)) from None
        try:
            host, port, raw = yield from _address()
        except _BadAddress as error:
            raise SocksError(str(error), reply(error.code)) from None
        if command is Command.CONNECT and not port:
            raise SocksError("nothing can be reached on port 0", reply(Reply.GENERAL_FAILURE))
        return Request(command, host, port, head + raw)


class ReplyReader(StepReader[Answer]):
    """Reads a server's answers to a `greeting` and a request that were sent together."""

    def __init__(self) -> None:
        super().__init__(self._talk())

    def _talk(self) -> Steps[Answer]:
        version, method = yield 2
        if (version, method) != (VERSION, Method.NO_LOGIN):
            raise ProtocolError(f"SOCKS server: version {version}, login method {method}")
        head = yield 3
        version, number, _ = head
        if version != VERSION:
            raise ProtocolError(f"SOCKS server: version {version} in the reply")
        try:
            code = Reply(number)
            host, port, _ = yield from _address()
        except ValueError as error:  # no such code, or a bad address
            raise ProtocolError(f"SOCKS server: {error}") from None
        return Answer(code, host, port)


# Writing


def greeting() -> bytes:
    """Return a client's greeting, which offers to go without a login."""
    return bytes([VERSION, 1, Method.NO_LOGIN])


def request(command: Command, host: str, port: int) -> bytes:
    """Return a request.  Raises `ValueError` for a name of more than 255 bytes."""
    return bytes([VERSION, command, 0]) + _pack_address(host, port)


def reply(code: Reply, host: str = NO_HOST, port: int = 0) -> bytes:
    """Return a server's reply to a request; `host` and `port` are its end of the connection."""
    return bytes([VERSION, code, 0]) + _pack_address(host, port)


def _pack_address(host: str, port: int) -> bytes:
    """Return an address as it stands in messages.  The zone of an IPv6 address has no place there.

    Raises `ValueError` for a name of no or more than 255 bytes.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode()
        if not 0 < len(name) <= MAX_NAME:
            raise ValueError(f"a name of {len(name)} bytes") from None
        head, octets = bytes([AddressType.NAME, len(name)]), name
    else:
        kind = AddressType.IPV4 if address.version == 4 else AddressType.IPV6
        head, octets = bytes([kind]), address.packed
    return head + octets + port.to_bytes(2)


@attrs.frozen
class UdpHeader:
    """The header of each datagram of a UDP association (RFC 1928 section 7).

    From the client it is where the datagram goes, and to the client where it comes from.
    """

    host: str
    port: int

    def pack(self, payload: bytes) -> bytes:
        """Return the datagram with this header and `payload`."""
        return b"\x00\x00\x00" + _pack_address(self.host, self.port) + payload

    @classmethod
    def unpack(cls, datagram: bytes) -> "tuple[UdpHeader, bytes]":
        """Return the header and the payload of `datagram`, or raise `ProtocolError`.

        Fragments are not put together, as the RFC allows.
        """
        reader = StepReader(_udp_header())
        try:
            header = reader.feed(datagram)
        except RemoteError as error:
            raise ProtocolError(f"SOCKS datagram: {error}") from None
        if header is None:
            raise ProtocolError(f"SOCKS datagram: {len(datagram)} bytes are no whole header")
        return header, reader.rest


def _udp_header() -> Steps[UdpHeader]:
    *_, fragment = yield 3
    if fragment:
        raise RemoteError(f"fragment {fragment}")
    host, port, _ = yield from _address()
    if not port:
        raise RemoteError("nothing can be reached on port 0")
    return UdpHeader(host, port)
