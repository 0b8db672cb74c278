"""TLS contexts, made of the files that options name.

A certificate outside its dates is a warning, and used all the same: a machine without a battery has
the wrong time for the first minute, and the peer decides anyway.  An authority need not be
self-signed: one that another authority has certified is enough (RFC 5280 section 6.1.1, "trust
anchor").
"""

from __future__ import annotations

import contextlib
import ssl
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import truststore

from cotun_trio.access.files import read_named
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography import x509

    from cotun_trio.settings import ClientTls, ServerTls

Warn = Callable[[str], None]
"""Called with each line that the user should read."""
Ends = Callable[[float], None]
"""Called with the end of the certificate, in seconds since 1970."""


def _say_nothing(line: str) -> None:
    """Where there is no file, there is no warning."""


def _ignore(end: float) -> None:
    """Where nobody wants to know the end of a certificate."""


ALPN = ["http/1.1"]
"""A client that could speak HTTP/2 must not: a WebSocket is an upgrade of HTTP/1.1."""


def server_context(
    tls: ServerTls, warn: Warn = _say_nothing, ends: Ends = _ignore
) -> ssl.SSLContext:
    """Return the TLS context of a server.

    `warn` is told of certificates that are not valid at present, `ends` of the end of its own.
    Raises `UsageError` that names the file: where it cannot be read, or the two do not belong
    together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(ALPN)
    load_pair(context, tls.cert, tls.key, warn, ends)
    if tls.ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        load_authorities(context, tls.ca, warn)
    return context


def client_context(
    tls: ClientTls, warn: Warn = _say_nothing, ends: Ends = _ignore
) -> ssl.SSLContext:
    """Return the TLS context of a client.

    `warn` is told of certificates that are not valid at present, `ends` of the end of its own, if
    it has one.  Raises `UsageError` that names the file.
    """
    context = (
        truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if tls.ca is None and not tls.skip_verify
        else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(ALPN)
    if tls.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif tls.ca is not None:
        load_authorities(context, tls.ca, warn)
    if tls.cert is not None and tls.key is not None:
        load_pair(context, tls.cert, tls.key, warn, ends)
    return context


def load_pair(context: ssl.SSLContext, cert: str, key: str, warn: Warn, ends: Ends) -> None:
    """Have `context` prove itself by a certificate.  Raises `UsageError`."""
    chain = read_named("the certificate", cert)
    private = read_named("the key", key, secret=True)
    if b"-----BEGIN " not in chain.data:
        raise UsageError(f"{escape(cert)} holds no PEM certificate")
    try:
        with contextlib.ExitStack() as stack:
            paths = [
                stack.enter_context(_as_file(file.data)) if file.marked else path
                for path, file in ((cert, chain), (key, private))
            ]
            context.load_cert_chain(paths[0], paths[1], lambda: _no_password(key))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UsageError(
                f"the key {escape(key)} does not belong to the certificate {escape(cert)}"
            ) from None
        raise UsageError(
            f"{escape(cert)} and {escape(key)} are not a certificate and its key, both PEM"
        ) from None
    certificates = _warn_of_dates(f"the certificate {escape(cert)}", chain.data, warn)
    if certificates:  # the first one is its own, and the others lead to an authority
        ends(certificates[0].not_valid_after_utc.timestamp())


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Give the path of a file with `content` that nobody else can read.

    The ssl module takes a certificate and its key from files only, and OpenSSL does not know the
    byte order mark in front of the user's own.
    """
    with tempfile.NamedTemporaryFile() as file:  # with mode 0600
        file.write(content)
        file.flush()
        yield file.name


def _no_password(path: str) -> str:
    raise UsageError(
        f"the TLS key {escape(path)} is encrypted, and its password cannot be asked for: decrypt a "
        "copy with openssl pkey"
    )


def load_authorities(context: ssl.SSLContext, path: str, warn: Warn) -> None:
    """Have `context` trust the authorities in a PEM file, or in all files of a directory.

    `warn` is told of those that are not valid at present.  Raises `UsageError`.
    """
    files = [Path(path)]
    if files[0].is_dir():
        files = sorted(file for file in files[0].iterdir() if file.is_file())
    found = []
    for file in files:
        text = read_named("the authorities", str(file)).data
        if b"-----BEGIN " not in text and len(files) > 1:
            continue  # a directory may hold other things
        try:
            context.load_verify_locations(cadata=text.decode("ascii", "replace"))
        except ssl.SSLError:
            raise UsageError(f"{escape(str(file))} holds no PEM certificates") from None
        found.append(text)
    if not found:
        raise UsageError(f"{escape(path)} holds no PEM certificates")
    # An authority that is itself certified by another one, which is not in the file, will do.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    _warn_of_dates(f"the authority in {escape(path)}", b"\n".join(found), warn)


def _warn_of_dates(name: str, pem: bytes, warn: Warn) -> list[x509.Certificate]:
    """Call `warn` for the first of the certificates in `pem` that is not valid now, if any is not.

    A bundle of authorities may hold dozens of old ones: the line has their number.  Returns the
    certificates.
    """
    from cryptography import x509  # no client without files has to wait 10 ms for it

    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError:  # cryptography is stricter than OpenSSL, which has taken it
        return []
    now = datetime.now(UTC)
    faults = [fault for each in certificates if (fault := _fault_of(each, now)) is not None]
    if faults:
        more = f", and {len(faults) - 1} more are not valid" if len(faults) > 1 else ""
        clock = f"the clock says {now:%Y-%m-%d %H:%M} UTC"
        warn(f"{name} {faults[0]} ({clock}){more}: renew it, or set the clock")
    return certificates


def _fault_of(certificate: x509.Certificate, now: datetime) -> str | None:
    """Return why a certificate is not valid at `now`; None where it is."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > end:
        return f"has expired on {end:%Y-%m-%d %H:%M} UTC"
    if now < start:
        return f"is not valid before {start:%Y-%m-%d %H:%M} UTC"
    return None
