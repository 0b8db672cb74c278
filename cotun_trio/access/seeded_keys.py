"""Keys made from a seed, ``--key SEED``: the same ones as the Go programs make.

They are for users whose clients know the fingerprints of such keys.  The seed is hashed 2048 times,
and is then the randomness of ``ecdsa.GenerateKey`` as it was up to Go 1.19.  Such a key is only as
safe as its seed is hard to guess: 2048 hashes take a millisecond.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 2048
ORDER = 0xFFFFFFFF_00000000_FFFFFFFF_FFFFFFFF_BCE6FAAD_A7179E84_F3B9CAC2_FC632551
"""Of P-256 (FIPS 186-4, D.1.2.3)."""
SCALAR_OCTETS = 40
"""Eight more than the order has, so that the remainder is not biased (FIPS 186-4, B.4.1)."""


def key_from_seed(seed: str) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key that `seed` stands for.

    Octets that are not UTF-8, which Python puts as lone surrogates into arguments and variables,
    count as they were.
    """
    octets = bytearray()
    for block in _blocks(seed.encode("utf-8", "surrogateescape")):
        octets += block
        if len(octets) >= SCALAR_OCTETS:
            break
    scalar = int.from_bytes(octets[:SCALAR_OCTETS], "big") % (ORDER - 1) + 1
    return ec.derive_private_key(scalar, ec.SECP256R1())


def _blocks(state: bytes) -> Iterator[bytes]:
    """Yield 32 octets at a time, without end."""
    for _ in range(ROUNDS):
        state = hashlib.sha512(state).digest()[:32]
    while True:
        digest = hashlib.sha512(state).digest()
        state = digest[:32]
        yield digest[32:]
