"""Private keys of every kind and in every container, and the vectors made with chisel."""

from __future__ import annotations

import base64
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cryptography.hazmat.primitives.serialization import KeySerializationEncryption

VECTORS: list[dict[str, str]] = json.loads(
    (Path(__file__).parents[1] / "vectors/keys.json").read_text(encoding="utf-8")
)["keys"]

KINDS: dict[str, Callable[[], Any]] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}
OTHER_KINDS: dict[str, Callable[[], Any]] = {
    "RSA-1024": lambda: rsa.generate_private_key(65537, 1024),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "DSA": lambda: dsa.generate_private_key(1024),
    "X25519": x25519.X25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
}
TRADITIONAL, PKCS8, OPENSSH = "traditional", "PKCS #8", "OpenSSH"
FORMATS = {
    TRADITIONAL: PrivateFormat.TraditionalOpenSSL,  # SEC 1 and PKCS #1
    PKCS8: PrivateFormat.PKCS8,
    OPENSSH: PrivateFormat.OpenSSH,
}
CONTAINERS = [
    (kind, container)
    for kind in KINDS
    for container in FORMATS
    if (kind, container) != ("Ed25519", TRADITIONAL)  # there is none
]


@functools.cache
def private_key(kind: str) -> Any:
    """Return a key of ``cryptography``, the same one for the same kind."""
    return {**KINDS, **OTHER_KINDS}[kind]()


def pem(kind: str, container: str = PKCS8, *, password: bytes | None = None) -> bytes:
    """Return the key of this kind as the content of a PEM file."""
    encryption: KeySerializationEncryption = NoEncryption()
    if password and container == OPENSSH:  # a single round, as each takes its time
        encryption = PrivateFormat.OpenSSH.encryption_builder().kdf_rounds(1).build(password)
    elif password:
        encryption = BestAvailableEncryption(password)
    result: bytes = private_key(kind).private_bytes(Encoding.PEM, FORMATS[container], encryption)
    return result


def public_blob(kind: str) -> bytes:
    """Return the public half as SSH has it, by other means than ours."""
    line = private_key(kind).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return base64.b64decode(line.split()[1])


def chain_of(error: BaseException) -> Iterator[str]:
    """Yield all that hangs on an error, whether or not a traceback would show it."""
    seen: BaseException | None = error
    while seen is not None:
        yield f"{seen!r} {seen} {vars(seen)}"
        seen = seen.__cause__ or seen.__context__
