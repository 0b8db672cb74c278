"""``ck-`` keys: an EC private key on one line, short enough for a variable or a shell's argument.

That is ``ck-`` and the DER of SEC 1 (RFC 5915), with the curve and the public key in it, in
standard base64 without padding.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from cotun_trio.errors import UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

PREFIX = "ck-"
_BASE64 = re.compile(rb"[A-Za-z0-9+/]+")


def is_ck_key(data: bytes) -> bool:
    """Return whether `data` means to be a ``ck-`` key."""
    return data.startswith(PREFIX.encode())


def encode_ck_key(key: ec.EllipticCurvePrivateKey) -> str:
    """Return `key` as a ``ck-`` key, without a newline."""
    der = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return PREFIX + base64.b64encode(der).decode("ascii").rstrip("=")


def decode_ck_key(data: bytes) -> ec.EllipticCurvePrivateKey:
    """Read a ``ck-`` key; white space around it is ignored, as `echo` and editors leave some.

    Raises `UsageError`, which shows nothing of it.
    """
    encoded = data.strip().removeprefix(PREFIX.encode())
    key: PrivateKeyTypes | None = None
    try:
        if _BASE64.fullmatch(encoded):
            der = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
            key = load_der_private_key(der, password=None)
    except (binascii.Error, ValueError, TypeError, UnsupportedAlgorithm):
        pass
    # Raised out here, so that no exception with a piece of the key in it hangs on to this one.
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError(
            "this is not a whole ck- key: copy all that --keygen wrote, about 160 characters"
        )
    return key
