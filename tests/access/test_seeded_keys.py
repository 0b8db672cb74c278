"""Keys from a seed: those of the Go original, to the last octet."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cotun_trio.access.ck_keys import encode_ck_key
from cotun_trio.access.seeded_keys import ORDER, key_from_seed
from tests.support.keys import VECTORS


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: repr(vector["seed"][:12]))
def test_a_seed_gives_the_key_that_chisel_makes_of_it(vector: dict[str, str]) -> None:
    key = key_from_seed(vector["seed"])
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    assert line.decode() == vector["public_openssh"]
    assert encode_ck_key(key) == vector["keygen_stdout"]


def test_different_seeds_give_different_keys() -> None:
    seeds = ["a", "A", "a ", "a\0", "aa"]
    assert len({key_from_seed(seed).private_numbers().private_value for seed in seeds}) == 5


def test_octets_that_are_not_utf_8_count_as_the_shell_gave_them() -> None:
    # Made with chisel 1.11.5: server --keygen - --key $'\xff'
    expected = (
        "ck-MHcCAQEEIFy8O+76ED0bb36UiYGgJDPV3BjGWuFTwf2sqHwxXY5koAoGCCqGSM49AwEHoUQDQgAERHAsSydFeVPRp"
        "8URn0zhb7+e7GnUDc0aWDZPu/dH1QDTDaRplNl/S5gHszUqKKsgaFSlsTsCN2gTZa5J5k9HkA"
    )
    assert encode_ck_key(key_from_seed(os.fsdecode(b"\xff"))) == expected


def test_the_order_is_that_of_the_curve() -> None:
    assert ec.derive_private_key(ORDER - 1, ec.SECP256R1()).private_numbers().private_value
    with pytest.raises(ValueError):
        ec.derive_private_key(ORDER, ec.SECP256R1())
