"""Fingerprints of host keys: how a client knows that it talks to the right server.

A fingerprint is the SHA-256 of the public key in standard base64, padding included.  Users of old
servers may still have the form that came before it, the MD5 in hex (RFC 4716 section 4).  It is
taken in full only: a key with a given prefix of it, which is enough for the Go programs, is found
by trying.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

from cotun_trio.errors import FingerprintMismatch, UsageError
from cotun_trio.escape import escape

LENGTH = 44
"""Characters of a fingerprint: 32 octets in standard base64, with padding."""
_LAST = "AEIMQUYcgkosw048"
"""Characters that the last one before the '=' can be: of its six bits, two are 0."""
_LEGACY = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){15}")


def fingerprint(public_blob: bytes) -> str:
    """Return the fingerprint of a public key, given as an SSH blob (RFC 4253 section 6.6)."""
    return base64.b64encode(hashlib.sha256(public_blob).digest()).decode("ascii")


def legacy_fingerprint(public_blob: bytes) -> str:
    """Return the MD5 fingerprint: 16 octets in lower-case hex, with colons between them."""
    return hashlib.md5(public_blob, usedforsecurity=False).digest().hex(":")


def is_legacy(text: str) -> bool:
    """Return whether `text` has the form of an MD5 fingerprint, in either case."""
    return _LEGACY.fullmatch(text) is not None


def check_form(text: str) -> str:
    """Return `text` if some key could have this fingerprint.  Raises `UsageError` otherwise."""
    if is_legacy(text):
        return text
    try:
        octets = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        octets = b""
    # Encoded again, as the last character but one has two bits that decoding ignores.
    if len(octets) == 32 and base64.b64encode(octets) == text.encode("ascii"):
        return text
    raise UsageError(
        f"{escape(text)!r} is not a fingerprint: copy the {LENGTH} characters, the last one a '=', "
        f"that the server prints after 'Fingerprint'{_why_not(text)}"
    )


def _why_not(text: str) -> str:
    """Return what is wrong with a text that is nearly a fingerprint, or nothing."""
    digits = re.fullmatch("(?:SHA256:)?([A-Za-z0-9+/]{42})(.*)", text, re.ASCII | re.DOTALL)
    end = digits[2] if digits else ""
    if text.startswith("SHA256:"):
        return "; it has no 'SHA256:' before it"
    if len(text) == LENGTH - 1 and end in _LAST:
        return "; the '=' at its end is missing"
    if len(text) == LENGTH and digits is not None:
        return f"; the length is right, but no fingerprint ends in {escape(end)!r}"
    return ""


def check_fingerprint(public_blob: bytes, expected: str) -> None:
    """Check that `public_blob` has the fingerprint `expected`, in constant time.

    Raises `FingerprintMismatch` where it has another one.
    """
    got = fingerprint(public_blob)
    shown = got
    if is_legacy(expected):
        legacy = legacy_fingerprint(public_blob)
        same = hmac.compare_digest(legacy, expected.lower())
        shown = f"{got}, or {legacy}"
    else:
        same = hmac.compare_digest(got.encode("ascii"), expected.encode("utf-8"))
    if not same:
        raise FingerprintMismatch(
            f"Invalid fingerprint ({shown}): --fingerprint is {escape(expected)}.  Either the "
            "server has a new key, as at each start without --keyfile or --key, or another server "
            "is at this address, or an attacker poses as the server"
        )
