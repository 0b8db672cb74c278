"""Each failure has a meaning."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import pytest

from cotun_trio.client.doctor.meanings import NoAnswer, explain, of_name
from cotun_trio.client.doctor.step_names import StepName
from cotun_trio.errors import (
    AuthenticationFailed,
    ConfigRefused,
    ConnectionLost,
    DialFailed,
    FingerprintMismatch,
    NotNow,
    ProtocolError,
    ProxyLoginUnknown,
    ProxyRefused,
    TlsFailed,
    UpgradeRefused,
)

if TYPE_CHECKING:
    from cotun_trio.errors import CotunError


def proxy(status: int) -> ProxyRefused:
    return ProxyRefused("no", errno.ECONNREFUSED, status=status)


@pytest.mark.parametrize(
    ("step", "error", "meaning", "advice"),
    [
        ("address", DialFailed("", errno.ECONNREFUSED), "nothing listens", "not on 127.0.0.1 only"),
        ("address", DialFailed("", errno.ETIMEDOUT), "a filtered port", "Port 443"),
        ("address", DialFailed("", errno.ENETUNREACH), "no route", ""),
        ("address", DialFailed("", errno.EIO), "", ""),
        ("proxy", proxy(403), "does not allow connections to this host or port", "SSL_ports"),
        ("proxy", proxy(407), "wants a login", "--proxy http://user:password@"),
        ("proxy", ProxyLoginUnknown("", errno.EACCES, status=407), "only Basic and", "cntlm or px"),
        ("proxy", proxy(404), "a web server, and no proxy", "--proxy right?"),
        ("proxy", proxy(503), "the proxy does not reach the server", "as seen from the proxy"),
        ("proxy", proxy(418), "", ""),
        ("proxy", DialFailed("", errno.ECONNREFUSED), "nothing listens", ""),
        ("tls", TlsFailed("", verify_code=10), "past its end, or the clock", "renew"),
        ("tls", TlsFailed("", verify_code=9), "before its beginning", "set the clock"),
        ("tls", TlsFailed("", verify_code=62), "for other names", "--sni"),
        *[
            (
                "tls",
                TlsFailed("", verify_code=code),
                "a proxy on the way that opens TLS",
                "--tls-ca",
            )
            for code in (2, 18, 19, 20, 21)
        ],
        ("tls", TlsFailed("", verify_code=23), "", ""),
        ("tls", TlsFailed("", reason="WRONG_VERSION_NUMBER"), "no TLS at this port", "http://"),
        (
            "tls",
            TlsFailed("", reason="TLSV13_ALERT_CERTIFICATE_REQUIRED"),
            "client's",
            "--tls-cert",
        ),
        ("tls", TlsFailed("", reason="UNEXPECTED_EOF_WHILE_READING"), "when TLS begins", "--sni"),
        ("tls", ConnectionLost("reset"), "when TLS begins", "--sni"),
        ("upgrade", UpgradeRefused(502), "does not reach the server behind it", "running"),
        ("upgrade", UpgradeRefused(404, body=b"Not found"), "a tunnel server may have", "--path"),
        ("upgrade", ConnectionLost(""), "closes the connection without an answer", "https://"),
        ("upgrade", NoAnswer("", heard=False), "no HTTP comes back", "https://"),
        ("upgrade", ProtocolError("the server speaks SSH"), "", ""),
        ("ssh", NoAnswer("", heard=False), "buffers, or does not pass", "proxy_buffering off"),
        ("ssh", NoAnswer("", heard=True), "packets of full size", "1280"),
        ("ssh", ConnectionLost(""), "takes WebSockets, but not what is in them", "https://"),
        ("host key", FingerprintMismatch(""), "nothing was sent to it", "at its start"),
        ("login", AuthenticationFailed(""), "the server has users", "--auth-from FILE"),
        ("login", ConnectionLost(""), "in place of an answer", "its log"),
        ("config", ConfigRefused(""), "even without remotes", ""),
        ("config", NotNow(""), "even without remotes", ""),
        ("ping", ConnectionLost(""), "", ""),
        ("idle", ConnectionLost(""), "drops a connection that is idle", "--keepalive"),
        ("idle", NoAnswer("", heard=False), "has forgotten it", "--keepalive"),
        ("upload", NoAnswer("", heard=False), "long ones do not", "MTU"),
    ],
)
def test_a_failure_has_a_meaning(step: str, error: CotunError, meaning: str, advice: str) -> None:
    found = explain(error, StepName(step))
    assert meaning in found.meaning
    assert bool(meaning) == bool(found.meaning)
    assert advice in found.advice


def test_a_name_that_does_not_exist_is_another_matter_than_no_name_server() -> None:
    assert "no such name" in of_name(socket.EAI_NONAME).meaning
    assert "no name server has answered" in of_name(socket.EAI_AGAIN).meaning
    assert of_name(None) == of_name(socket.EAI_AGAIN)
