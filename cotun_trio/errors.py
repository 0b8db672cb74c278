"""Every error that cotun-trio raises on purpose.

The class alone answers two questions, so that no error is ever told apart by its text: whose fault
it was, and whether another try can help.

* `UsageError`: the user's own input (an option, a remote, a file).  Raised before anything runs.
* `ProtocolError`: the peer broke a rule of HTTP, WebSocket, SSH or our own protocol.
* `Refused`: the peer followed the rules and said no.  `fatal` ones stay a no however often we ask.
* `ConnectionLost`: the network did it, or the peer went away.

Text that came from the peer is escaped where it enters an error (`cotun_trio.escape`), so an error
can be printed as it is.
"""


class CotunError(Exception):
    """The root of the tree: catch this to catch all that follows."""

    fatal: bool = False
    """Whether the same attempt, made again, must fail in the same way."""
    retry_after: float | None = None
    """Seconds for which the peer does not want another attempt, where it said so."""


class UsageError(CotunError):
    """The user asked for something that cannot be; the text says so, and shows a right form."""

    fatal = True


class ProtocolError(CotunError):
    """The peer broke the protocol; only its own connection suffers."""


class ConnectionLost(CotunError):
    """The connection ended without a reason from the peer: cut, reset, timed out or just closed."""


class TlsFailed(ConnectionLost):
    """TLS has failed: a certificate that is not accepted, most of the time.

    Not `fatal`: certificates are renewed, and clocks set.  `verify_code` is OpenSSL's number for
    what is wrong with a certificate (X509_V_ERR_…), and `reason` its name for another fault.
    """

    def __init__(self, text: str, *, verify_code: int | None = None, reason: str = "") -> None:
        super().__init__(text)
        self.verify_code = verify_code
        self.reason = reason


class AcmeFailed(CotunError):
    """A certificate could not be had from its authority, this time."""


class DialFailed(ConnectionLost):
    """A connection could not be made; the text names the target and the reason.

    `errno` is the system's number for the reason; a name that does not resolve is EHOSTUNREACH.
    """

    def __init__(self, reason: str, errno: int, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.errno = errno
        self.retry_after = retry_after


class ProxyRefused(DialFailed):
    """A proxy answered, and the answer was no: `status` is that of its HTTP."""

    def __init__(
        self, reason: str, errno: int, *, status: int, retry_after: float | None = None
    ) -> None:
        super().__init__(reason, errno, retry_after=retry_after)
        self.status = status


class ProxyLoginUnknown(ProxyRefused):
    """A proxy wants a login, and by none of the schemes that are known here."""


class Shortage(DialFailed):
    """A resource that it needs is used up here at present: places for look-ups, descriptors."""


class Refused(CotunError):
    """The peer answered, and the answer was no."""


class UpgradeRefused(Refused):
    """The HTTP server did not switch to our WebSocket protocol.

    `status` is its HTTP status, and `advice` what that means for the user.  `fields` are the header
    fields of the answer, and `body` is the beginning of its body, as far as it has come: both are
    as the server sent them.
    """

    def __init__(
        self,
        status: int,
        advice: str = "",
        *,
        retry_after: float | None = None,
        fields: tuple[tuple[bytes, bytes], ...] = (),
        body: bytes = b"",
    ) -> None:
        text = f"the server answered HTTP {status} where a WebSocket upgrade was expected"
        super().__init__(f"{text}: {advice}" if advice else text)
        self.status = status
        self.retry_after = retry_after
        self.fields = fields
        self.body = body


class AuthenticationFailed(Refused):
    """The server took none of our credentials."""

    fatal = True


class ConfigRefused(Refused):
    """The server does not grant the remotes that the client asked for; the text is its reason."""

    fatal = True


class NotNow(Refused):
    """The server cannot grant the remotes at present; the text is its reason.

    A port that another client holds, or a decision that could not be made: the same request can
    succeed later.
    """


class SameServer(NotNow):
    """The client has another session with this server, and wants one with another server.

    Only a client with several connections asks for that.
    """


class FingerprintMismatch(CotunError):
    """The server's host key is not the one that the user named: perhaps not their server at all."""

    fatal = True


class GaveUp(CotunError):
    """The client has tried to connect as often as it was told to."""


class OpenRefused(Refused):
    """The peer did not open a channel.

    `code` is the reason code of RFC 4254 section 5.1: 1 prohibited, 2 connect failed, 3 unknown
    type, 4 resource shortage; and 0xFE000001 between nodes of a fleet.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason or f"channel refused (reason code {code})")
        self.code = code
        self.reason = reason
