"""Host keys: the key pairs by which a server proves that it is the right one.

Keys are read by the ``cryptography`` package; the SSH engine signs with paramiko's class for the
kind.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, TypeAlias

import paramiko
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cotun_trio.access.ck_keys import decode_ck_key, is_ck_key
from cotun_trio.access.pem_keys import decode_pem_key
from cotun_trio.errors import UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

HostKey: TypeAlias = paramiko.PKey
"""A key pair; its ``asbytes()`` is the public half, as the blob of RFC 4253 section 6.6."""

RSA_BITS = (2048, 16384)
"""The least that is still safe (RFC 8332 section 5.1), and the most that OpenSSL verifies."""
CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
"""The curves of RFC 5656 section 10.1."""


def generate_private_key() -> ec.EllipticCurvePrivateKey:
    """Return a new key on P-256, the kind that Go's servers have by default."""
    return ec.generate_private_key(ec.SECP256R1())


def generate_host_key() -> HostKey:
    """Return a new host key on P-256."""
    return as_host_key(generate_private_key())


def decode_host_key(data: bytes) -> HostKey:
    """Read a host key from a ``ck-`` key or the content of a PEM file, or the base64 of either.

    Raises `UsageError` for anything else, which shows nothing of it.
    """
    data = without_base64(data)
    return as_host_key(decode_ck_key(data) if is_ck_key(data.lstrip()) else decode_pem_key(data))


def without_base64(data: bytes) -> bytes:
    """Return the key that `data` is the base64 of, as ``base64`` prints it; or else `data` itself.

    The Go programs' help tells users to give ``--keyfile`` the output of ``… | base64``.
    """
    compact = b"".join(data.split())
    try:
        inner = base64.b64decode(compact + b"=" * (-len(compact) % 4), validate=True)
    except ValueError:
        return data
    return inner if is_ck_key(inner) or inner.startswith(b"-----BEGIN ") else data


def as_host_key(key: PrivateKeyTypes) -> HostKey:
    """Return `key` as the SSH engine needs it.

    Raises `UsageError` for the kinds that SSH does not have and for RSA of the wrong size.
    """
    if isinstance(key, ec.EllipticCurvePrivateKey):
        if not isinstance(key.curve, CURVES):
            raise UsageError(
                f"the private key is on the curve {key.curve.name}, which SSH does not have: "
                "P-256, P-384 and P-521 work"
            )
        return paramiko.ECDSAKey(vals=(key, key.public_key()))
    if isinstance(key, rsa.RSAPrivateKey):
        if not RSA_BITS[0] <= key.key_size <= RSA_BITS[1]:
            raise UsageError(
                f"the RSA key has {key.key_size} bits: it has to have {RSA_BITS[0]} to "
                f"{RSA_BITS[1]}"
            )
        return paramiko.RSAKey(key=key)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        # paramiko reads this kind from OpenSSH's format only.
        text = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        return paramiko.Ed25519Key(file_obj=io.StringIO(text.decode("ascii")))
    raise UsageError("the private key is of a kind that SSH does not have: EC, RSA, Ed25519 work")


def encode_host_key(key: HostKey) -> bytes:
    """Return a whole host key as PEM, without a password; `decode_host_key` reads it."""
    private: PrivateKeyTypes
    if isinstance(key, paramiko.Ed25519Key):
        # A key of another library, whose bytes are the seed; paramiko does not give it away.
        seed = bytes(key._signing_key)  # noqa: SLF001
        private = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    else:
        private = key.signing_key if isinstance(key, paramiko.ECDSAKey) else key.key
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
