"""TLS on a byte stream that the caller moves: bytes in, bytes out, no socket.

The data path reads and writes its sockets itself; with an `ssl.SSLObject` on memory BIOs between,
it stays the same path.  Writing never blocks here: the caller sends the encrypted bytes.
"""

from __future__ import annotations

import contextlib
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from cotun_trio.errors import TlsFailed
from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import name_for_tls

if TYPE_CHECKING:
    from cryptography import x509

MAX_LEFT = 2 * (16 * 1024 + 256 + 5)
"""Bytes that can wait for the rest of their record between two reads: one record (RFC 8446 section
5.2) for each TLS, of which there may be two."""

MAX_RECORDS = 128
"""Records that are decrypted at once.  Each costs a microsecond or two, however little is in it,
and 256 KiB hold 11,000 of the smallest; of full ones, these are 2 MiB."""


class Tls:
    """One end of a TLS connection.

    `name` is the host of the server, for its client: to ask for it by SNI (RFC 6066 section 3), and
    to find it in the certificate where the context says so.  `trust_option` names the option with
    which a user has further issuers trusted, for error texts.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        name: str | None = None,
        trust_option: str = "",
    ) -> None:
        self.ended = False
        """Whether the peer has said that it sends no more."""
        self.unfinished = False
        """Whether there is more to decrypt, for which nothing has to be fed."""
        self._failure: TlsFailed | None = None  # what ended the receiving
        self._peer = "client" if server_side else "server"
        self._trust_option = trust_option
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            # `Any`: that `read` can fill a buffer is not in its type.
            self._object: Any = context.wrap_bio(
                self._in,
                self._out,
                server_side=server_side,
                server_hostname=None if name is None else name_for_tls(name),
            )
        except ValueError:  # a name that is none, such as one that begins with a dot
            raise TlsFailed(f"TLS: '{escape(name or '')}' cannot be the name of a server") from None

    def take_out(self) -> bytes:
        """Return the bytes that have to go to the peer."""
        return self._out.read() if self._out.pending else b""

    def feed(self, data: memoryview | bytes) -> None:
        """Take bytes from the peer."""
        self._in.write(data)

    def feed_eof(self) -> None:
        """Note that no more will come."""
        self._in.write_eof()

    def shake_hands(self) -> bool:
        """Go on with the handshake; return whether it is done.  Raises `TlsFailed`."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except (ssl.SSLError, ssl.CertificateError) as error:
            raise self._failed(error) from None
        return True

    def decrypt_into(self, area: memoryview) -> int:
        """Decrypt into `area`; return the number of bytes.  Raises `TlsFailed`.

        Has to be called again while it is `unfinished`.
        """
        if self._failure is not None:
            raise self._failure
        size = 0
        self.unfinished = False
        try:
            for _ in range(MAX_RECORDS):
                if size == len(area):
                    break
                count = self._object.read(len(area) - size, area[size:])
                if not count:
                    self.ended = True
                    return size
                size += count
            self.unfinished = True
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            # A connection that is cut looks the same here: the protocol inside knows its own end.
            self.ended = True
        except ssl.SSLError as error:
            self._failure = self._failed(error)
            if not size:  # or the bytes before it count, and the next call raises this
                raise self._failure from None
            self.unfinished = True
        return size

    def encrypt(self, *pieces: bytes | memoryview) -> bytes:
        """Encrypt `pieces`, none of which is empty.  Raises `TlsFailed`."""
        try:
            for piece in pieces:
                self._object.write(piece)  # all of it: the BIO has no limit
        except ssl.SSLError as error:
            raise self._failed(error) from None
        return self._out.read()

    def close(self) -> bytes:
        """Return the message that we send no more."""
        with contextlib.suppress(ssl.SSLError, ValueError):
            self._object.unwrap()  # it wants to see the peer's own then, for which nobody waits
        return self.take_out()

    def _failed(self, error: Exception) -> TlsFailed:
        text = explain(error, self._peer)
        code = getattr(error, "verify_code", None)
        if code in _OTHER_NAME:
            text += f": {names_in(self.peer_certificate)}"
        elif code in UNKNOWN_ISSUER and self._trust_option:
            text += f": if you trust it, give its certificate, PEM, with {self._trust_option} FILE"
        reason = getattr(error, "reason", None) or ""
        return TlsFailed(f"TLS: {text}", verify_code=code, reason=reason)

    @property
    def version(self) -> str:
        """The version of the protocol, such as ``TLSv1.3``; empty before the handshake."""
        return self._object.version() or ""

    @property
    def cipher(self) -> str:
        """The cipher, by OpenSSL's name; empty before the handshake."""
        found = self._object.cipher()
        return found[0] if found else ""

    @property
    def peer_certificate(self) -> bytes:
        """The certificate that the peer has shown, DER, also where it was not taken.

        Empty where that cannot be found out.
        """
        if hasattr(self._object, "get_unverified_chain"):  # Python 3.13
            chain: list[bytes] = self._object.get_unverified_chain() or []
        else:  # the same, before it was public; `getpeercert` is for connections that stand
            found = self._object._sslobj.get_unverified_chain()  # noqa: SLF001
            chain = [each.public_bytes(_DER) for each in found or ()]
        return chain[0] if chain else b""


class Nested:
    """TLS with a server, inside of TLS with a proxy."""

    def __init__(self, outer: Tls, inner: Tls) -> None:
        self._outer = outer
        self._inner = inner
        self._area = memoryview(bytearray(MAX_LEFT))

    @property
    def ended(self) -> bool:
        """See `Tls`, here and below."""
        return self._inner.ended

    @property
    def unfinished(self) -> bool:
        """Whether there is more to decrypt, for which nothing has to be fed."""
        return self._outer.unfinished or self._inner.unfinished

    @property
    def version(self) -> str:
        """See `Tls`: that with the server."""
        return self._inner.version

    @property
    def cipher(self) -> str:
        """See `Tls`: that with the server."""
        return self._inner.cipher

    @property
    def peer_certificate(self) -> bytes:
        """See `Tls`: that of the server."""
        return self._inner.peer_certificate

    def take_out(self) -> bytes:
        """Return the bytes that have to go to the proxy."""
        out = self._inner.take_out()
        return self._outer.encrypt(out) if out else self._outer.take_out()

    def feed(self, data: memoryview | bytes) -> None:
        """Take bytes from the proxy."""
        self._outer.feed(data)

    def feed_eof(self) -> None:
        """Note that no more will come."""
        self._outer.feed_eof()

    def _pass_on(self) -> None:
        """Decrypt the bytes of the proxy; of many small records, only some."""
        while size := self._outer.decrypt_into(self._area):
            self._inner.feed(self._area[:size])
            if size < len(self._area):
                break
        if self._outer.ended:
            self._inner.feed_eof()

    def shake_hands(self) -> bool:
        """Go on with the inner handshake; the outer one is done."""
        self._pass_on()
        return self._inner.shake_hands()

    def decrypt_into(self, area: memoryview) -> int:
        """Decrypt the bytes of the server into `area`; see `Tls`."""
        self._pass_on()
        return self._inner.decrypt_into(area)

    def encrypt(self, *pieces: bytes | memoryview) -> bytes:
        """Encrypt `pieces` for the server, and that for the proxy."""
        return self._outer.encrypt(self._inner.encrypt(*pieces))

    def close(self) -> bytes:
        """Return the message to the server that we send no more."""
        return self._outer.encrypt(self._inner.close())


AnyTls: TypeAlias = Tls | Nested


_CERTIFICATE = {
    2: "is from an unknown issuer",
    9: "is not valid yet; the clock here says {clock}",
    10: "has expired; the clock here says {clock}",
    18: "has no issuer that is trusted here: it is self-signed",
    19: "has no issuer that is trusted here: its issuer is self-signed",
    20: "is from an unknown issuer",
    21: "is from an unknown issuer",
    23: "has been revoked",
    26: "is not for this purpose",
    62: "is for another name",
    64: "is for another address",
}
"""The faults of certificates, by OpenSSL's number (X509_V_ERR_…)."""
UNKNOWN_ISSUER, _OTHER_NAME = {2, 18, 19, 20, 21}, {62, 64}
"""Those of them that have an option against them, and those about names."""
_DER = 2  # `ssl._ssl.ENCODING_DER`
MAX_NAMES = 8
"""Names of a certificate that an error shows; there are certificates with hundreds."""
_NO_TLS = "the {peer} does not speak TLS"
_REASONS = {
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "HTTP_REQUEST": "the {peer} speaks HTTP without TLS",
    "RECORD_LAYER_FAILURE": _NO_TLS,
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the {peer} shows no certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the {peer} wants a certificate of ours",
    "TLSV1_ALERT_UNKNOWN_CA": (
        "the {peer} does not know the issuer of our certificate: "
        "a cotun-trio there trusts those of its --tls-ca"
    ),
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the {peer} says that our certificate has expired",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the {peer} does not take our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the {peer} does not take our certificate",
    "TLSV1_UNRECOGNIZED_NAME": "the {peer} does not know this name",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": (
        "the {peer} refused: it may want a certificate of ours, or has no cipher in common"
    ),
    "TLSV1_ALERT_PROTOCOL_VERSION": "the {peer} has no version of TLS in common",
    "UNSUPPORTED_PROTOCOL": "the {peer} has no version of TLS in common",
    "NO_SHARED_CIPHER": "the {peer} has no cipher in common",
    "UNEXPECTED_EOF_WHILE_READING": "the {peer} closed the connection in the handshake",
}
"""OpenSSL's reasons, in a user's words."""


def explain(error: Exception, peer: str) -> str:
    """Return the reason of an error, in a user's words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = _CERTIFICATE.get(error.verify_code) or escape(error.verify_message)
        clock = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        return f"the {peer}'s certificate {why.replace('{clock}', clock)}"
    reason = getattr(error, "reason", None)
    if isinstance(error, ssl.SSLEOFError):
        reason = "UNEXPECTED_EOF_WHILE_READING"
    known = _REASONS.get(reason or "")
    if known is None:
        return escape((reason or str(error)).lower())
    advice = ": write http:// in its URL, if it is to have none"
    return known.format(peer=peer) + (advice if known == _NO_TLS and peer == "server" else "")


def names_in(certificate: bytes) -> str:
    """Return the names and addresses in a certificate, DER, as a text for the user."""
    from cryptography import x509  # late: it is big, and only this error needs it

    try:
        names = alternative_names(x509.load_der_x509_certificate(certificate))
    except ValueError:  # OpenSSL and this library differ about what a certificate is
        return "its names cannot be read"
    if not names:
        return "it has no names as subjectAltName, and a common name does not count"
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"it is for {', '.join(map(escape, names[:MAX_NAMES]))}{more}"


def alternative_names(certificate: x509.Certificate) -> list[str]:
    """Return the names and addresses that a certificate is for, as they are.

    Raises `ValueError` where they cannot be read.
    """
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [
        *found.get_values_for_type(x509.DNSName),
        *map(str, found.get_values_for_type(x509.IPAddress)),
    ]
