"""Host keys and their fingerprints: how a client knows that it talks to the right server."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

import paramiko

from cotun_trio.errors import FingerprintMismatch, UsageError
from cotun_trio.escape import escape

LENGTH = 44
"""Characters of a fingerprint: 32 octets in standard base64, with padding."""


def generate_host_key() -> paramiko.PKey:
    """Return a new ECDSA key on P-256, the kind that Go's servers have by default."""
    return paramiko.ECDSAKey.generate()


def fingerprint(public_blob: bytes) -> str:
    """Return the fingerprint of a public key, given as an SSH blob (RFC 4253 section 6.6)."""
    return base64.b64encode(hashlib.sha256(public_blob).digest()).decode("ascii")


def check_form(text: str) -> str:
    """Return `text` if it has the form of a fingerprint.  Raises `UsageError` otherwise."""
    try:
        if len(text) == LENGTH and len(base64.b64decode(text, validate=True)) == 32:
            return text
    except (binascii.Error, ValueError):
        pass
    raise UsageError(
        f"{escape(text)!r} is not a fingerprint: copy the {LENGTH} characters, the last one a '=', "
        "that the server prints after 'Fingerprint'"
    )


def check_fingerprint(public_blob: bytes, expected: str) -> None:
    """Raise `FingerprintMismatch` unless `public_blob` has the fingerprint `expected`."""
    got = fingerprint(public_blob)
    if not hmac.compare_digest(got.encode("ascii"), expected.encode("utf-8")):
        raise FingerprintMismatch(f"Invalid fingerprint ({got})")
