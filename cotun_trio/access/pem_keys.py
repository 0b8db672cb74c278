"""Private keys in PEM files, as ``openssl``, ``ssh-keygen`` and ACME clients write them.

Taken are SEC 1 (RFC 5915), PKCS #1 (RFC 8017, A.1.2), PKCS #8 (RFC 5958) and OpenSSH's own format
(its PROTOCOL.key).  Other parts of the file, such as curve parameters, a certificate or comments,
are passed over.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

from cotun_trio.errors import UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY-----")


def decode_pem_key(data: bytes) -> PrivateKeyTypes:
    """Return the only private key in `data`, of any kind.

    Raises `UsageError` where there is none, more than one, one that is broken or one that is
    encrypted; it shows nothing of the key.
    """
    kinds = _BEGIN.findall(data)
    if not kinds:
        raise UsageError("there is no private key in it: a PEM file or a ck- key is needed")
    if len(kinds) > 1:
        raise UsageError(f"there are {len(kinds)} private keys in it: leave the one to be used")
    encrypted = False
    key: PrivateKeyTypes | None = None
    try:
        if kinds[0] == b"OPENSSH ":
            key = load_ssh_private_key(data, password=None)
        else:
            key = load_pem_private_key(data, password=None)
    except TypeError:
        encrypted = True  # cryptography's way of saying that it wants a password
    except (ValueError, UnsupportedAlgorithm, NotImplementedError):
        pass
    # Raised out here, so that no exception with a piece of the key in it hangs on to this one.
    if encrypted:
        raise UsageError(
            "the private key in it is encrypted, and a server has nobody to ask for the password: "
            "decrypt a copy with ssh-keygen -p or openssl pkey"
        )
    if key is None:
        raise UsageError("the private key in it is damaged, or of a kind that is not supported")
    return key
