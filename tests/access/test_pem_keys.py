"""PEM files: every container, and a reason for each that is not taken."""

from __future__ import annotations

import base64
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.access.pem_keys import decode_pem_key
from cotun_trio.errors import UsageError
from scripts.peers import find
from tests.support.keys import CONTAINERS, OPENSSH, PKCS8, TRADITIONAL, chain_of, pem, private_key
from tests.support.peers import needs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENCRYPTED = "is encrypted, and a server has nobody to ask"


def same(data: bytes, kind: str) -> bool:
    """Return whether `data` is read as the key of this kind."""
    forms = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    read = decode_pem_key(data).public_key().public_bytes(*forms)
    expected: bytes = private_key(kind).public_key().public_bytes(*forms)
    return read == expected


@pytest.mark.parametrize(("kind", "container"), CONTAINERS)
def test_every_kind_is_read_from_every_container(kind: str, container: str) -> None:
    assert same(pem(kind, container), kind)


@pytest.mark.parametrize(("kind", "container"), CONTAINERS)
def test_an_encrypted_key_is_refused_with_that_reason(kind: str, container: str) -> None:
    with pytest.raises(UsageError, match=ENCRYPTED):
        decode_pem_key(pem(kind, container, password=b"secret"))


def test_an_encrypted_key_is_refused_with_that_reason_when_its_cipher_is_unknown() -> None:
    data = pem("RSA", TRADITIONAL, password=b"secret")
    assert b"DEK-Info: AES-256-CBC" in data
    with pytest.raises(UsageError, match=ENCRYPTED):
        decode_pem_key(data.replace(b"AES-256-CBC", b"XYZ-256-CBC"))


AROUND: dict[str, Callable[[bytes], bytes]] = {
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "no newline at the end": lambda data: data.rstrip(),
    "comments": lambda data: b"Bag Attributes\n    friendlyName: x\n" + data + b"\nthe end\n",
    "curve parameters": lambda data: (
        b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + data
    ),
    "public key": lambda data: (
        data
        + private_key("P-256")
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    ),
}


@pytest.mark.parametrize("container", [TRADITIONAL, PKCS8, OPENSSH])
@pytest.mark.parametrize("around", AROUND)
def test_what_else_is_in_the_file_is_passed_over(around: str, container: str) -> None:
    assert same(AROUND[around](pem("P-256", container)), "P-256")


@pytest.mark.parametrize("container", [TRADITIONAL, OPENSSH])
def test_two_keys_in_a_file_are_refused_as_nobody_knows_which(container: str) -> None:
    with pytest.raises(UsageError, match="there are 2 private keys in it"):
        decode_pem_key(pem("P-256", container) + pem("Ed25519"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 1000,
        b"hello",
        b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN somebody@somewhere\n",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b"PuTTY-User-Key-File-3: ssh-ed25519\n",
        base64.b64encode(b"ck-AAAA"),
    ],
)
def test_a_file_without_a_private_key_is_refused_with_that_reason(data: bytes) -> None:
    with pytest.raises(UsageError, match="there is no private key in it: a PEM file or a ck- key"):
        decode_pem_key(data)


@pytest.mark.parametrize(("kind", "container"), CONTAINERS)
def test_a_damaged_key_is_refused_without_showing_it(kind: str, container: str) -> None:
    lines = pem(kind, container).splitlines(keepends=True)
    body = lines[1][:60]
    for damaged in (
        lines[:1] + lines[2:],
        lines[:-1],
        [*lines[:1], lines[1][1:], *lines[2:]],
        [*lines[:1], b"!" + lines[1][1:], *lines[2:]],
    ):
        with pytest.raises(UsageError, match="damaged, or of a kind that is not supp") as caught:
            decode_pem_key(b"".join(damaged))
        assert body.decode() not in "".join(chain_of(caught.value))
        assert caught.value.__context__ is None


def test_halves_that_do_not_belong_together_are_refused() -> None:
    head, *body, tail = pem("P-256", TRADITIONAL).splitlines()
    der = base64.b64decode(b"".join(body))
    secret = private_key("P-256").private_numbers().private_value

    def with_secret(number: int) -> bytes:
        changed = der.replace(secret.to_bytes(32, "big"), number.to_bytes(32, "big"))
        return b"\n".join([head, base64.b64encode(changed), tail])

    assert same(with_secret(secret), "P-256")
    with pytest.raises(UsageError, match="damaged"):
        decode_pem_key(with_secret(secret ^ 1))


OPENSSH_BODY = base64.b64decode(b"".join(pem("Ed25519", OPENSSH).splitlines()[1:-1]))
OPENSSH_EC_BODY = base64.b64decode(b"".join(pem("P-256", OPENSSH).splitlines()[1:-1]))


@pytest.mark.parametrize("body", [OPENSSH_BODY, OPENSSH_EC_BODY], ids=["Ed25519", "P-256"])
@given(data=st.data())
def test_damage_inside_opensshs_format_is_a_usage_error_or_none(
    body: bytes, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(body) - 1))
    put = data.draw(st.binary(min_size=1, max_size=4))
    damaged = body[:place] + put + body[place + data.draw(st.integers(0, 4)) :]
    text = base64.encodebytes(damaged).decode()
    label = "OPENSSH PRIVATE KEY"
    try:
        key = decode_pem_key(f"-----BEGIN {label}-----\n{text}-----END {label}-----\n".encode())
    except UsageError:
        return
    assert key.public_key()


def test_a_compressed_point_is_refused_as_not_supported() -> None:
    # cryptography says so by NotImplementedError, which is no other program's business.
    body = OPENSSH_EC_BODY.replace(b"\0\0\0\x41\x04", b"\0\0\0\x41\x02")
    assert body != OPENSSH_EC_BODY
    text = base64.encodebytes(body).decode()
    label = "OPENSSH PRIVATE KEY"
    with pytest.raises(UsageError, match="of a kind that is not supported"):
        decode_pem_key(f"-----BEGIN {label}-----\n{text}-----END {label}-----\n".encode())


SSH_KEYGEN, OPENSSL = find("ssh-keygen"), find("openssl")


@pytest.mark.interop
@needs("ssh-keygen")
@pytest.mark.parametrize("form", [[], ["-m", "PEM"], ["-m", "PKCS8"]], ids=" ".join)
@pytest.mark.parametrize("kind", ["ecdsa", "ed25519"])
def test_what_ssh_keygen_makes_is_read(kind: str, form: list[str], tmp_path: Path) -> None:
    assert SSH_KEYGEN is not None
    path = tmp_path / "key"
    command = [
        SSH_KEYGEN,
        "-q",
        "-t",
        kind,
        "-N",
        "",
        "-C",
        "Schlüssel",
        "-a",
        "1",
        "-f",
        str(path),
    ]
    subprocess.run([*command, *form], check=True)
    expected = path.with_suffix(".pub").read_bytes().split()[:2]
    key = decode_pem_key(path.read_bytes()).public_key()
    assert key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split() == expected
    # And the same with a password, whatever ssh-keygen encrypts with today.
    subprocess.run(
        [SSH_KEYGEN, "-q", "-p", "-N", "secret", "-a", "1", "-f", str(path), *form], check=True
    )
    with pytest.raises(UsageError, match=ENCRYPTED):
        decode_pem_key(path.read_bytes())


@pytest.mark.interop
@needs("openssl")
def test_what_openssl_makes_with_curve_parameters_before_the_key_is_read() -> None:
    assert OPENSSL is not None
    command = [OPENSSL, "ecparam", "-genkey", "-name", "secp384r1"]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    assert re.search(rb"BEGIN EC PARAMETERS.*BEGIN EC PRIVATE KEY", data, re.DOTALL)
    assert decode_pem_key(data).public_key()
