"""Host keys: every kind that SSH has becomes one that can sign; the seams of paramiko for it."""

from __future__ import annotations

import inspect
import io

import paramiko
import pytest

from cotun_trio.access.fingerprints import fingerprint
from cotun_trio.access.host_keys import (
    RSA_BITS,
    as_host_key,
    decode_host_key,
    encode_host_key,
    generate_host_key,
)
from cotun_trio.errors import UsageError
from tests.support.keys import (
    CONTAINERS,
    KINDS,
    OPENSSH,
    VECTORS,
    pem,
    private_key,
    public_blob,
)

ALGORITHMS = {
    "P-256": ["ecdsa-sha2-nistp256"],
    "P-384": ["ecdsa-sha2-nistp384"],
    "P-521": ["ecdsa-sha2-nistp521"],
    "RSA": ["rsa-sha2-256", "rsa-sha2-512"],
    "Ed25519": ["ssh-ed25519"],
}
NAMES = {**{kind: names[0] for kind, names in ALGORITHMS.items()}, "RSA": "ssh-rsa"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_key_becomes_text_and_again_the_same_key(kind: str) -> None:
    key = as_host_key(private_key(kind))
    again = decode_host_key(encode_host_key(key))
    assert again.asbytes() == key.asbytes()
    signature = again.sign_ssh_data(b"data", ALGORITHMS[kind][0])
    signature.rewind()
    assert type(key)(data=key.asbytes()).verify_ssh_sig(b"data", signature)


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_of_every_kind_signs_what_a_client_can_verify(kind: str) -> None:
    key = as_host_key(private_key(kind))
    public = paramiko.PKey.from_type_string(NAMES[kind], public_blob(kind))
    for algorithm in ALGORITHMS[kind]:
        signature = key.sign_ssh_data(b"the exchange hash", algorithm).asbytes()
        assert public.verify_ssh_sig(b"the exchange hash", paramiko.Message(signature))
        assert not public.verify_ssh_sig(b"another", paramiko.Message(signature))


@pytest.mark.parametrize(("kind", "container"), CONTAINERS)
def test_the_public_half_is_the_same_from_every_container(kind: str, container: str) -> None:
    assert decode_host_key(pem(kind, container)).asbytes() == public_blob(kind)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: repr(vector["seed"][:12]))
def test_a_ck_key_has_the_fingerprint_that_chisel_shows(vector: dict[str, str]) -> None:
    key = decode_host_key(vector["keygen_stdout"].encode() + b"\n")
    assert fingerprint(key.asbytes()) == vector["fingerprint_sha256"]


def test_white_space_before_a_ck_key_does_not_make_it_a_pem_file() -> None:
    key = decode_host_key(b"\n " + VECTORS[0]["keygen_stdout"].encode())
    assert fingerprint(key.asbytes()) == VECTORS[0]["fingerprint_sha256"]


def test_a_new_key_is_on_p_256_and_another_each_time() -> None:
    keys = [generate_host_key() for _ in range(3)]
    assert {key.get_name() for key in keys} == {"ecdsa-sha2-nistp256"}
    assert len({key.asbytes() for key in keys}) == 3


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("RSA-1024", "the RSA key has 1024 bits: it has to have 2048 to 16384"),
        ("secp256k1", "the private key is on the curve secp256k1, which SSH does not have"),
        ("DSA", "of a kind that SSH does not have"),
        ("X25519", "of a kind that SSH does not have"),
        ("Ed448", "of a kind that SSH does not have"),
    ],
)
def test_what_ssh_does_not_have_or_nobody_should_use_is_refused(kind: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        decode_host_key(pem(kind))


def test_rsa_is_taken_from_the_least_size_on() -> None:
    assert private_key("RSA").key_size == RSA_BITS[0]
    assert as_host_key(private_key("RSA")).get_bits() == RSA_BITS[0]


# ---- what this relies on inside paramiko: its constructors, and how they name a key


def test_seam_ecdsa_keys_take_both_halves() -> None:
    key = private_key("P-384")
    wrapped = paramiko.ECDSAKey(vals=(key, key.public_key()))
    assert wrapped.can_sign()
    assert wrapped.get_name() == "ecdsa-sha2-nistp384"
    assert wrapped.asbytes() == public_blob("P-384")


def test_seam_rsa_keys_take_the_private_half() -> None:
    wrapped = paramiko.RSAKey(key=private_key("RSA"))
    assert wrapped.can_sign()
    assert wrapped.get_name() == "ssh-rsa"
    assert wrapped.asbytes() == public_blob("RSA")


def test_seam_ed25519_keys_are_read_from_opensshs_format() -> None:
    wrapped = paramiko.Ed25519Key(file_obj=io.StringIO(pem("Ed25519", OPENSSH).decode()))
    assert wrapped.can_sign()
    assert wrapped.get_name() == "ssh-ed25519"
    assert wrapped.asbytes() == public_blob("Ed25519")


def test_seam_ed25519_keys_have_no_shorter_way_in() -> None:
    # When they get one, host_keys.as_host_key can do without the detour.
    parameters = set(inspect.signature(paramiko.Ed25519Key).parameters)
    assert parameters == {"msg", "data", "filename", "password", "file_obj"}


def test_seam_the_repr_of_a_key_shows_nothing_of_its_private_half() -> None:
    key = generate_host_key()
    secret = key.private_key.private_numbers().private_value
    for shown in (repr(key), str(key.__dict__.get("public_blob"))):
        assert str(secret) not in shown
        assert f"{secret:x}" not in shown.lower()
