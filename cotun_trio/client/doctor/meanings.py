"""The meaning of each failure for a user, and what would help."""

from __future__ import annotations

import errno
import functools
import socket
from typing import TYPE_CHECKING

from cotun_trio.client.doctor.step_names import StepName
from cotun_trio.errors import (
    AuthenticationFailed,
    ConfigRefused,
    ConnectionLost,
    DialFailed,
    FingerprintMismatch,
    NotNow,
    ProxyLoginUnknown,
    ProxyRefused,
    TlsFailed,
    UpgradeRefused,
)
from cotun_trio.net.tls import UNKNOWN_ISSUER
from cotun_trio.protocol.http_answer import Diagnosis, diagnose
from cotun_trio.protocol.proxy_login import UNKNOWN

if TYPE_CHECKING:
    from cotun_trio.errors import CotunError


class NoAnswer(ConnectionLost):
    """A step had no answer in its time; `heard` says whether any bytes came."""

    def __init__(self, text: str, *, heard: bool) -> None:
        super().__init__(text)
        self.heard = heard


@functools.singledispatch
def explain(error: CotunError, name: StepName) -> Diagnosis:  # noqa: ARG001
    """Return what `error` means in the step `name`; empty where its text says all."""
    return Diagnosis()


# ---- names and TCP

NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


def of_name(number: int | None) -> Diagnosis:
    """Return what a failed look-up means; `number` is that of the resolver (``EAI_…``)."""
    if number in NO_SUCH_NAME:
        return Diagnosis(
            "the name server knows no such name, or no address for it",
            "is it spelled right?  A name of an inner network is known there only: with its VPN, "
            "or by --proxy, which looks names up itself",
        )
    return Diagnosis(
        "no name server has answered",
        "is there a network, and is the name server in /etc/resolv.conf reachable?",
    )


_DIAL = {
    errno.ECONNREFUSED: Diagnosis(
        "the machine is there, and nothing listens at this port, or a firewall rejects it",
        "is the server running, at this port, and not on 127.0.0.1 only?",
    ),
    errno.ETIMEDOUT: Diagnosis(
        "nothing comes back: a firewall drops the packets (a filtered port), or no machine has "
        "this address",
        "is the port open in the firewalls and security groups on the way?  Port 443 is open most "
        "often; where only a proxy gets out, give --proxy or --proxy-from-env",
    ),
    errno.ENETUNREACH: Diagnosis("this machine has no route to this address"),
    errno.EHOSTUNREACH: Diagnosis("a router on the way, or this machine, knows no way there"),
    errno.EACCES: Diagnosis("a firewall of this machine does not allow it"),
    errno.ECONNRESET: Diagnosis("the connection was cut while it was being made"),
}
NO_FAMILY = {errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""The errors of a machine that has no addresses of a family, such as IPv6."""


@explain.register
def _(error: DialFailed, _name: StepName) -> Diagnosis:
    return _DIAL.get(error.errno, Diagnosis())


# ---- the proxy

_NO_FORWARD_PROXY = Diagnosis(
    "it is a web server, and no proxy for CONNECT", "are the host and the port of --proxy right?"
)
_BEYOND_PROXY = Diagnosis(
    "the proxy does not reach the server: nothing listens there, or it cannot look the name up",
    "are the name and the port of the URL right, as seen from the proxy?",
)
_PROXY = {
    403: Diagnosis(
        "the proxy does not allow connections to this host or port",
        "most allow CONNECT to port 443 only (squid: SSL_ports): let the server listen there, "
        "or ask the proxy's owner",
    ),
    407: Diagnosis(
        "the proxy wants a login, or does not take this one",
        "give it in --proxy http://user:password@host:port, with % codes for special characters",
    ),
    **dict.fromkeys((400, 404, 405, 501), _NO_FORWARD_PROXY),
    **dict.fromkeys((500, 502, 503, 504), _BEYOND_PROXY),
}


@explain.register
def _(error: ProxyRefused, _name: StepName) -> Diagnosis:
    return _PROXY.get(error.status, Diagnosis())


@explain.register
def _(_error: ProxyLoginUnknown, _name: StepName) -> Diagnosis:
    return UNKNOWN


# ---- TLS

EXPIRED, NOT_YET_VALID = 10, 9
_OTHER_NAME = {62, 64}
_PLAIN = Diagnosis(
    "the server speaks no TLS at this port, but plain HTTP perhaps",
    "write http:// in the URL, or the port that has TLS",
)
_CUT_IN_TLS = Diagnosis(
    "something closes the connection when TLS begins: a firewall that does not like this name, or "
    "a server without a certificate for it",
    "try --sni with another name of the server, and another port",
)
_CLIENT_CERTIFICATE = Diagnosis(
    "the server wants a certificate of the client's, or does not take this one",
    "give one that its --tls-ca has issued: --tls-cert and --tls-key",
)
_TLS_REASONS = {
    "WRONG_VERSION_NUMBER": _PLAIN,
    "RECORD_LAYER_FAILURE": _PLAIN,
    "HTTP_REQUEST": _PLAIN,
    "UNEXPECTED_EOF_WHILE_READING": _CUT_IN_TLS,
    "TLSV1_UNRECOGNIZED_NAME": _CUT_IN_TLS,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": _CLIENT_CERTIFICATE,
    "TLSV1_ALERT_UNKNOWN_CA": _CLIENT_CERTIFICATE,
    "SSLV3_ALERT_BAD_CERTIFICATE": _CLIENT_CERTIFICATE,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": _CLIENT_CERTIFICATE,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _CLIENT_CERTIFICATE,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": Diagnosis(
        "the server refuses: no cipher in common, a name that it does not know, or no certificate "
        "of the client's",
        "try --sni, or --tls-cert and --tls-key",
    ),
}


@explain.register
def _(error: TlsFailed, _name: StepName) -> Diagnosis:
    code = error.verify_code
    if code == EXPIRED:
        return Diagnosis(
            "the server's certificate is past its end, or the clock of this machine is wrong",
            "compare the clock with the dates above; the server's owner has to renew it",
        )
    if code == NOT_YET_VALID:
        return Diagnosis(
            "the server's certificate is before its beginning: most often, the clock of this "
            "machine is wrong",
            "set the clock",
        )
    if code in _OTHER_NAME:
        return Diagnosis(
            "the certificate is for other names: another server answers, or a proxy that knows "
            "the server by another name",
            "use one of its names in the URL, or give it by --sni",
        )
    if code in UNKNOWN_ISSUER:
        return Diagnosis(
            "the issuer of the certificate is not trusted here: it is the server's owner, or a "
            "proxy on the way that opens TLS; the issuer above tells which",
            "if you trust the issuer, give its certificate by --tls-ca; with --fingerprint, SSH "
            "inside is safe from the proxy in any case (--tls-skip-verify)",
        )
    return _TLS_REASONS.get(error.reason, Diagnosis())


# ---- HTTP, SSH and after

_LOST = {
    StepName.TLS: _CUT_IN_TLS,
    StepName.UPGRADE: Diagnosis(
        "the server, or a firewall in front of it, closes the connection without an answer",
        "does it want TLS (https://), or another --hostname?",
    ),
    StepName.SSH: Diagnosis(
        "the upgrade was answered, and then the connection was closed: a proxy or a firewall on "
        "the way takes WebSockets, but not what is in them",
        "with https://, it cannot look inside",
    ),
    StepName.LOGIN: Diagnosis(
        "the server has ended the connection in place of an answer",
        "its log says why; after failed logins, it bars an address for a while",
    ),
    StepName.IDLE: Diagnosis(
        "a proxy, a firewall or a NAT on the way drops a connection that is idle for as long",
        "have the client ping more often: client --keepalive, with half of that time",
    ),
}
_SILENT = {
    StepName.UPGRADE: Diagnosis(
        "the connection is there, and no HTTP comes back: no web server, one that hangs, or a "
        "proxy that waits for the back end",
        "is it the right port, and does it want TLS (https://)?",
    ),
    StepName.SSH: Diagnosis(
        "the upgrade was answered, and no frame comes: a proxy on the way buffers, or does not "
        "pass WebSockets on",
        "it has to pass the bytes on at once, in both directions (nginx: proxy_http_version 1.1, "
        "proxy_buffering off); https:// hides them from a proxy on the client's side",
    ),
    StepName.LOGIN: Diagnosis(
        "the server does not answer the login", "is it very busy, with costly password hashes?"
    ),
    StepName.IDLE: Diagnosis(
        "the connection has become silent: a firewall or a NAT on the way has forgotten it",
        "have the client ping more often: client --keepalive, with half of that time",
    ),
    StepName.UPLOAD: Diagnosis(
        "short messages come through, and long ones do not",
        "packets of full size are lost on the way, as with a VPN and a wrong MTU: set the MTU of "
        "this machine's interface to 1280 for a test",
    ),
}
_SILENT_BUT_HEARD = {
    StepName.SSH: Diagnosis(
        "the server's first frames come, and then nothing: packets of full size may be lost on "
        "the way, as with a VPN and a wrong MTU",
        "set the MTU of this machine's interface to 1280 for a test",
    ),
}


@explain.register
def _(error: NoAnswer, name: StepName) -> Diagnosis:
    found = _SILENT_BUT_HEARD.get(name) if error.heard else None
    return found or _SILENT.get(name, Diagnosis())


@explain.register
def _(_error: ConnectionLost, name: StepName) -> Diagnosis:
    return _LOST.get(name, Diagnosis())


@explain.register
def _(error: UpgradeRefused, _name: StepName) -> Diagnosis:
    return diagnose(error.status, error.fields, error.body)


@explain.register
def _(_error: AuthenticationFailed, _name: StepName) -> Diagnosis:
    return Diagnosis(
        "the server has users, and this is none of them, or another password",
        "give --auth USER:PASSWORD or --auth-from FILE, as the server has them; after some "
        "failures, it bars this address for a while",
    )


@explain.register
def _(_error: FingerprintMismatch, _name: StepName) -> Diagnosis:
    return Diagnosis(
        "it is another server than the one expected, or it has a new key; nothing was sent to it",
        "compare with the fingerprint that the server prints at its start",
    )


@explain.register(ConfigRefused)
@explain.register(NotNow)
def _(_error: CotunError, _name: StepName) -> Diagnosis:
    return Diagnosis("the server lets this user in, and refuses a session even without remotes")
