"""TLS contexts, made of the files that options name."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import truststore

from cotun_trio.errors import UsageError
from cotun_trio.escape import escape

if TYPE_CHECKING:
    from cotun_trio.settings import ClientTls, ServerTls

ALPN = ["http/1.1"]
"""A client that could speak HTTP/2 must not: a WebSocket is an upgrade of HTTP/1.1."""


def server_context(tls: ServerTls) -> ssl.SSLContext:
    """Return the TLS context of a server.

    Raises `UsageError` that names the file: where it cannot be read, the two do not belong
    together, or the certificate is not valid at present.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(ALPN)
    _check_validity(tls.cert)
    load_pair(context, tls.cert, tls.key)
    if tls.ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        load_authorities(context, tls.ca)
    return context


def client_context(tls: ClientTls) -> ssl.SSLContext:
    """Return the TLS context of a client.  Raises `UsageError` that names the file."""
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
        load_authorities(context, tls.ca)
    if tls.cert is not None and tls.key is not None:
        load_pair(context, tls.cert, tls.key)
    return context


def load_pair(context: ssl.SSLContext, cert: str, key: str) -> None:
    """Have `context` prove itself by a certificate.  Raises `UsageError`."""
    for path in (cert, key):
        _read(path)
    try:
        context.load_cert_chain(cert, key, _no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UsageError(
                f"the key {escape(key)} does not belong to the certificate {escape(cert)}"
            ) from None
        raise UsageError(
            f"{escape(cert)} and {escape(key)} are not a certificate and its key, both PEM"
        ) from None


def _no_password() -> str:
    raise UsageError("the TLS key is encrypted, and there is nobody to ask for its password")


def load_authorities(context: ssl.SSLContext, path: str) -> None:
    """Have `context` trust the authorities in a PEM file, or in all files of a directory.

    Raises `UsageError`.
    """
    files = [Path(path)]
    if files[0].is_dir():
        files = sorted(file for file in files[0].iterdir() if file.is_file())
    found = 0
    for file in files:
        text = _read(str(file))
        if b"-----BEGIN " not in text and len(files) > 1:
            continue  # a directory may hold other things
        try:
            context.load_verify_locations(cadata=text.decode("ascii", "replace"))
        except ssl.SSLError:
            raise UsageError(f"{escape(str(file))} holds no PEM certificates") from None
        found += 1
    if not found:
        raise UsageError(f"{escape(path)} holds no PEM certificates")


def _check_validity(path: str) -> None:
    """Raise `UsageError` unless the first certificate in a file is valid now."""
    from cryptography import x509  # a server's only: no client has to wait 10 ms for it

    try:
        certificate = x509.load_pem_x509_certificate(_read(path))
    except ValueError:
        raise UsageError(f"{escape(path)} holds no PEM certificate") from None
    now = datetime.now(UTC)
    if now > certificate.not_valid_after_utc:
        end = certificate.not_valid_after_utc
        raise UsageError(f"the certificate {escape(path)} has expired on {end:%Y-%m-%d}")
    if now < certificate.not_valid_before_utc:
        start = certificate.not_valid_before_utc
        raise UsageError(f"the certificate {escape(path)} is not valid before {start:%Y-%m-%d}")


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {escape(path)}: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"'{escape(path)}' is not a path") from None
