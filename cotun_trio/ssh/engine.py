"""One end of an SSH transport, sans-I/O: a paramiko Transport that never starts its thread.

Paramiko does the part that it is good at: algorithm negotiation, key exchange (ML-KEM hybrid and
strict key exchange included), host keys and key derivation.  Its handlers for these are synchronous
and do nothing but append to our `Packetizer.out`.  Parts that would wait, block or read carelessly
are replaced:

* the version line, since ours is not ``SSH-2.0-…``; KEXINIT goes out together with it, and the
  client's two login messages together as well: two round trips less than waiting each time;
* the packets and the dispatch, with a check that each message is due and has its exact length;
* the login: with one method, saying it ourselves is shorter than guarding paramiko's handler, which
  would also answer before a verdict reached elsewhere is there;
* EXT_INFO, whose count paramiko would follow up to 2³²; everything from RFC 4254.

Bytes go in by `Engine.receive`; out of it come events, and the payloads of connection-protocol
messages (types 80 to 127) as plain `memoryview`, once the login is done.  A login that the server
has to judge stops the engine: `LoginRequested` comes out, and nothing more is processed
before `answer_login`.

Each error that paramiko or cryptography raise about a peer's bytes becomes `ProtocolError` here,
and nowhere else.  The attributes of paramiko that this module relies on are named, one test each,
in ``tests/ssh/test_paramiko_seams.py``.
"""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import paramiko
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from paramiko.kex_curve25519 import KexCurve25519

from cotun_trio.budget import KEY_EXCHANGE, PACKET, REQUEST
from cotun_trio.errors import AuthenticationFailed, ConnectionLost, ProtocolError
from cotun_trio.escape import escape
from cotun_trio.ssh import messages
from cotun_trio.ssh.key_exchange import (
    check_kex_init,
    check_kex_reply,
    check_kex_request,
    check_new_keys,
)
from cotun_trio.ssh.messages import Reader
from cotun_trio.ssh.packetizer import Packetizer, RekeyLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cotun_trio.ssh.scratch import Scratch

MAX_VERSION_LINE = 255
"""Bytes, RFC 4253 section 4.2, the line's end included."""
KEYS_ARE_FOR = 512 * 1024
"""Bytes that one set of keys carries at least, if the peer means well: an exchange of keys costs as
much computation as so many bytes of data."""
MAX_LOGIN_TRIES = 3
"""Wrong passwords before the connection is closed: OpenSSH's prompts give as many."""

_PARAMIKO_ERRORS = (
    paramiko.SSHException,
    ValueError,  # cryptography, for public values that are none; UnicodeError too
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    struct.error,
    InvalidSignature,
    UnsupportedAlgorithm,
)


@attrs.frozen
class KeysAgreed:
    """The first key exchange is done.

    `host_key` is the public key that the server proved to hold (the blob of RFC 4253 section 6.6;
    empty on the server's own side).
    """

    host_key: bytes


@attrs.frozen
class LoginRequested:
    """A client asks for a login; the engine waits for `Engine.answer_login`."""

    user: str
    password: str = attrs.field(repr=False)


@attrs.frozen
class LoggedIn:
    """The login is done, the connection protocol begins."""


@attrs.frozen
class KeysRenewed:
    """A later key exchange is done: messages that had to wait can be sent."""


Event = KeysAgreed | LoginRequested | LoggedIn | KeysRenewed


class _NoSocket:
    """Stands for the socket of a paramiko Transport that never uses it."""

    def settimeout(self, _seconds: float) -> None:
        """Nothing here ever waits."""

    def close(self) -> None:
        """Nothing here is open."""


class _Transport(paramiko.Transport):  # type: ignore[misc]
    """paramiko's state machine, which offers only the algorithms that we speak."""

    # Go's SSH has had curve25519 since 2015, until 2022 by the second of its names only.
    _preferred_kex = (
        "mlkem768x25519-sha256",
        "curve25519-sha256",
        "curve25519-sha256@libssh.org",
    )
    # RFC 8731 made it the standard's name; the method is the one that paramiko has @libssh.org.
    _kex_info = {**paramiko.Transport._kex_info, "curve25519-sha256": KexCurve25519}
    _preferred_ciphers = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
    # Not used beside an AEAD cipher, but the lists may not be empty.
    _preferred_macs = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
    _preferred_keys = (
        "ecdsa-sha2-nistp256",
        "ssh-ed25519",
        "rsa-sha2-512",
        "rsa-sha2-256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
    )

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """The keys above, without paramiko's certificates, of which it checks next to nothing."""
        return self._preferred_keys

    def _log(self, level: int, msg: object, *args: object) -> None:
        """Log nothing: paramiko would log bytes of the peer without escaping them."""


class Engine:
    """One end of an SSH transport.

    `host_key`, a paramiko private key, makes it a server.  `version` is our version line without
    its end.  Output collects in ``engine.packetizer.out``, from the first line on.
    """

    def __init__(
        self,
        version: str,
        scratch: Scratch,
        *,
        host_key: paramiko.PKey | None = None,
        rekey_limit: RekeyLimit | None = None,
        packetizer_class: Callable[[Scratch, RekeyLimit], Packetizer] = Packetizer,
    ) -> None:
        self.packetizer = packetizer_class(scratch, rekey_limit or RekeyLimit())
        self.peer_version = ""
        self.user = ""
        """The user that is logged in; on the client's side, our own."""
        self.authenticated = False
        self.may_send = False
        """Whether the connection protocol may send: logged in, and no key exchange under way."""
        self._server = host_key is not None
        self._login_kinds = self._SERVER_LOGIN if self._server else self._CLIENT_LOGIN
        self._line = bytearray()  # the peer's version line while it is incomplete
        self._exchanging = True  # a key exchange is under way, begun by either end
        self._peer_began = False  # the peer's KEXINIT for it has come
        self._exchange_is_waste = False
        self._host_key = b""
        self._login_tries = 0
        self._login_sent = False
        self._keys_agreed = False
        # server_sig_algs: paramiko would send EXT_INFO after every key exchange, and Go's client
        # drops the connection when one arrives in the middle of a session.
        transport: Any = _Transport(
            _NoSocket(), server_sig_algs=False, packetizer_class=lambda _socket: self.packetizer
        )
        transport.local_version = version
        if host_key is not None:
            transport.server_mode = True
            transport.add_server_key(host_key)
        self._transport = transport
        self.packetizer.out.extend(version.encode("ascii") + b"\r\n")
        transport._send_kex_init()

    # ---- bytes in, events out

    def receive(self, data: memoryview) -> Iterator[memoryview | Event]:
        """Process `data`; yield connection-protocol payloads and events, in order.

        A payload is valid until ``packetizer.start_batch()``.  Raises `ProtocolError` for
        anything malformed or out of turn, `AuthenticationFailed` when our login was refused, and
        `ConnectionLost` when the peer disconnects; the engine is of no use after any of them.
        """
        if not self.peer_version:
            data = self._read_version(data)
            if not self.peer_version:
                return
        for payload in self.packetizer.packets(data):
            if payload[0] >= messages.GLOBAL_REQUEST:
                if not self.authenticated:
                    raise ProtocolError(f"SSH message {payload[0]} before the login")
                if self._peer_began:
                    raise ProtocolError(f"SSH message {payload[0]} in a key exchange")
                yield payload
            else:
                yield from self._on_message(payload[0], payload)

    def _read_version(self, data: memoryview) -> memoryview:
        """Take the peer's version line (RFC 4253 section 4.2) off the front and return the rest.

        No other line may come before it.
        """
        before = len(self._line)
        self._line += data[: MAX_VERSION_LINE - before]
        end = self._line.find(b"\n")
        if end < 0:
            if len(self._line) >= MAX_VERSION_LINE:
                raise ProtocolError(f"an SSH version line of over {MAX_VERSION_LINE} bytes")
            return data[:0]
        line = bytes(self._line[:end]).removesuffix(b"\r")
        if not line.startswith(b"SSH-") or not line.isascii() or b"\0" in line:
            raise ProtocolError(f"not an SSH version line: {escape(line)}")
        self.peer_version = self._transport.remote_version = line.decode("ascii")
        return data[end + 1 - before :]

    def _on_message(self, kind: int, payload: memoryview) -> Iterator[Event]:
        """Handle a message below the connection protocol."""
        if kind == messages.DISCONNECT:
            reader = Reader(payload)
            code, reason = reader.u32(), reader.string()
            raise ConnectionLost(f"the peer disconnected: {escape(bytes(reason[:1024]))} ({code})")
        if kind in self._IGNORED:
            self._ignore(kind)
        elif messages.KEXINIT <= kind < messages.USERAUTH_REQUEST:
            yield from self._on_key_exchange(kind, payload)
        elif self._peer_began or not self._transport.initial_kex_done:
            raise ProtocolError(f"SSH message {kind} in a key exchange")
        elif self.authenticated and kind == messages.USERAUTH_REQUEST:
            pass  # RFC 4252 section 5.1: ignored silently once the login is done
        elif not self.authenticated and kind in self._login_kinds:
            yield from self._on_login(kind, Reader(payload))
        else:
            self.answer_unimplemented()

    _IGNORED = frozenset(
        {messages.IGNORE, messages.DEBUG, messages.UNIMPLEMENTED, messages.EXT_INFO}
    )

    def _ignore(self, kind: int) -> None:
        transport = self._transport
        if transport.agreed_on_strict_kex and not transport.initial_kex_done:
            raise ProtocolError(f"SSH message {kind} in a strict key exchange")
        self.packetizer.budget.note_waste(PACKET)

    def answer_unimplemented(self) -> None:
        """Tell the peer that we do not know the message just received (RFC 4253 section 11.4)."""
        self.packetizer.budget.waste(REQUEST)
        self.packetizer.send_payload(
            messages.about_channel(messages.UNIMPLEMENTED, self._sequence_number())
        )

    def _sequence_number(self) -> int:
        """Return the number of the packet just received."""
        return (self.packetizer.sequence_in - 1) & 0xFFFFFFFF

    def stop(self) -> None:
        """Let nothing more of the connection protocol be sent: the connection is lost."""
        self.may_send = False

    # ---- key exchange

    def start_rekey(self) -> None:
        """Begin a new key exchange, unless one is under way or the login is still to come."""
        if self.authenticated and not self._exchanging:
            self._exchanging = True
            self.may_send = False
            self._transport._send_kex_init()

    def _on_key_exchange(self, kind: int, payload: memoryview) -> Iterator[Event]:
        self._count_key_exchange(kind)
        transport = self._transport
        if kind == messages.KEXINIT and not self._peer_began:
            check_kex_init(payload)
            self._exchanging = self._peer_began = True
            self.may_send = False
            handle = transport._negotiate_keys
        elif kind in transport._expected_packet:
            transport._expected_packet = ()
            handle = self._exchange_step(kind, payload)
        else:
            raise ProtocolError(f"SSH message {kind} out of turn")
        message = paramiko.Message(bytes(payload[1:]))
        message.seqno = self._sequence_number()  # strict key exchange is judged by it
        try:
            handle(message)
        except _PARAMIKO_ERRORS as error:
            raise ProtocolError(f"key exchange failed: {escape(str(error))}") from error
        if kind == messages.NEWKEYS:
            yield self._finish_key_exchange()

    def _count_key_exchange(self, kind: int) -> None:
        """Count the work of a message, as waste where the peer began an exchange for nothing."""
        if kind == messages.NEWKEYS:  # which costs next to nothing
            return
        if kind == messages.KEXINIT:
            # A peer that means well asks for new keys after gigabytes.
            carried = self.packetizer.carried
            self._exchange_is_waste = not self._exchanging and carried < KEYS_ARE_FOR
        budget = self.packetizer.budget
        (budget.waste if self._exchange_is_waste else budget.spend)(KEY_EXCHANGE)

    def _exchange_step(self, kind: int, payload: memoryview) -> Callable[[paramiko.Message], None]:
        """Check a message that paramiko expects; return the function of paramiko that takes it."""
        transport = self._transport
        if kind == messages.NEWKEYS:
            check_new_keys(payload)
            handle: Callable[[paramiko.Message], None] = transport._parse_newkeys
            return handle
        if self._server:
            check_kex_request(payload)
        else:
            check_kex_reply(payload)
        return partial(transport.kex_engine.parse_next, kind)

    def _finish_key_exchange(self) -> KeysAgreed | KeysRenewed:
        self._exchanging = self._peer_began = False
        host_key = b"" if self._server else self._transport.host_key.asbytes()
        if not self._keys_agreed:
            self._keys_agreed = True
            self._host_key = host_key
            return KeysAgreed(host_key)
        if host_key != self._host_key:
            raise ProtocolError("the server came with another host key in a later key exchange")
        self.may_send = self.authenticated
        return KeysRenewed()

    # ---- login (RFC 4252)

    _SERVER_LOGIN = frozenset({messages.SERVICE_REQUEST, messages.USERAUTH_REQUEST})
    _CLIENT_LOGIN = frozenset(
        {
            messages.SERVICE_ACCEPT,
            messages.USERAUTH_FAILURE,
            messages.USERAUTH_SUCCESS,
            messages.USERAUTH_BANNER,
        }
    )

    def log_in(self, user: str, password: str) -> None:
        """Ask the server for a login.  Only after `KeysAgreed` and a check of the host key."""
        assert self._keys_agreed
        assert not self._login_sent
        self._login_sent = True
        self.user = user
        send = self.packetizer.send_payload
        send(bytes((messages.SERVICE_REQUEST,)) + messages.string(b"ssh-userauth"))
        send(
            bytes((messages.USERAUTH_REQUEST,))
            + messages.string(user.encode())
            + messages.string(b"ssh-connection")
            + messages.string(b"password")
            + b"\0"  # not a change of the password
            + messages.string(password.encode())
        )

    def answer_login(self, *, accepted: bool) -> None:
        """Answer `LoginRequested`.  Bytes that came meanwhile are processed by the next `receive`.

        Raises `AuthenticationFailed` where that was the last try.
        """
        self.packetizer.go_on()
        if accepted:
            self.packetizer.send_payload(bytes((messages.USERAUTH_SUCCESS,)))
            self._begin_connection()
            return
        self._refuse_login()
        self._login_tries += 1
        if self._login_tries >= MAX_LOGIN_TRIES:
            raise AuthenticationFailed(f"{MAX_LOGIN_TRIES} wrong passwords")

    def _refuse_login(self) -> None:
        """Say that a password is needed; this was none, or a wrong one."""
        self.packetizer.send_payload(
            bytes((messages.USERAUTH_FAILURE,)) + messages.string(b"password") + b"\0"
        )

    def _begin_connection(self) -> None:
        self.authenticated = True
        self.may_send = not self._exchanging
        self.packetizer.trust_peer()

    def _on_login(self, kind: int, reader: Reader) -> Iterator[Event]:
        self.packetizer.budget.spend(REQUEST)
        if kind == messages.SERVICE_REQUEST:
            if (service := reader.text()) != "ssh-userauth":
                raise ProtocolError(f"no such SSH service: {escape(service)}")
            reader.end()
            self.packetizer.send_payload(
                bytes((messages.SERVICE_ACCEPT,)) + messages.string(b"ssh-userauth")
            )
        elif kind == messages.USERAUTH_REQUEST:
            yield from self._on_login_request(reader)
        elif not self._login_sent:
            raise ProtocolError(f"SSH message {kind} before we asked for a login")
        elif kind == messages.USERAUTH_FAILURE:
            raise AuthenticationFailed("the server refused the user name or the password")
        elif kind == messages.USERAUTH_SUCCESS:
            reader.end()
            self._begin_connection()
            yield LoggedIn()
        # A SERVICE_ACCEPT needs no answer, and a USERAUTH_BANNER is not for a log.

    def _on_login_request(self, reader: Reader) -> Iterator[LoginRequested]:
        user, service, method = reader.text(), reader.text(), reader.text()
        if service != "ssh-connection":
            raise ProtocolError(f"no such SSH service: {escape(service)}")
        if method != "password" or reader.boolean():
            self._refuse_login()  # a different method, or a wish to change the password
            return
        password = reader.text()
        reader.end()
        self.user = user
        self.packetizer.hold()
        yield LoginRequested(user, password)
