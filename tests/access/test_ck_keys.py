"""``ck-`` keys: the Go original's, and nothing that is cut short or holds another kind."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.access.ck_keys import decode_ck_key, encode_ck_key, is_ck_key
from cotun_trio.access.host_keys import generate_private_key
from cotun_trio.errors import UsageError
from tests.support.keys import VECTORS, chain_of, private_key

WHOLE = VECTORS[0]["keygen_stdout"].encode()
DER = base64.b64decode(WHOLE[3:] + b"=" * (-len(WHOLE[3:]) % 4))


def ck(der: bytes) -> bytes:
    return b"ck-" + base64.b64encode(der).rstrip(b"=")


def private_value(key: ec.EllipticCurvePrivateKey) -> int:
    return key.private_numbers().private_value


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: repr(vector["seed"][:12]))
def test_what_chisel_wrote_is_read_and_written_the_same(vector: dict[str, str]) -> None:
    text = vector["keygen_stdout"]
    assert is_ck_key(text.encode())
    assert encode_ck_key(decode_ck_key(text.encode())) == text


def test_a_new_key_comes_back_and_is_one_short_line() -> None:
    key = generate_private_key()
    text = encode_ck_key(key)
    assert private_value(decode_ck_key(text.encode())) == private_value(key)
    assert "\n" not in text
    assert "=" not in text
    assert len(text) == 165


def test_a_scalar_that_begins_with_zeros_takes_as_many_octets() -> None:
    # SEC 1, C.4: as many as the order has; Go pads it as well.
    key = ec.derive_private_key(1, ec.SECP256R1())
    assert len(encode_ck_key(key)) == 165
    assert private_value(decode_ck_key(encode_ck_key(key).encode())) == 1


@pytest.mark.parametrize("around", [b"%s\n", b"%s\r\n", b"  %s", b"\n%s\n\n"])
def test_white_space_around_it_is_ignored(around: bytes) -> None:
    assert encode_ck_key(decode_ck_key(around % WHOLE)) == WHOLE.decode()


@pytest.mark.parametrize("curve", ["P-384", "P-521"])
def test_other_curves_are_read_as_go_reads_them(curve: str) -> None:
    text = encode_ck_key(private_key(curve))
    assert private_value(decode_ck_key(text.encode())) == private_value(private_key(curve))


@pytest.mark.parametrize("length", range(3, len(WHOLE), 9))
def test_a_key_that_was_cut_short_is_refused(length: int) -> None:
    with pytest.raises(UsageError, match="not a whole ck- key"):
        decode_ck_key(WHOLE[:length])


OTHERS = [
    WHOLE + b"=",
    WHOLE + b"AAAA",
    WHOLE.replace(b"c", b"!"),
    WHOLE.replace(b"+", b"-").replace(b"/", b"_"),
    WHOLE[:40] + b"\n" + WHOLE[40:],
    WHOLE + WHOLE,
    WHOLE + "é".encode(),
    WHOLE + b"\xff\0",
    b"ck-" + WHOLE,
    ck(DER[:-1] + bytes((DER[-1] ^ 1,))),  # the halves do not belong together
    ck(DER[:8] + bytes((DER[8] ^ 1,)) + DER[9:]),
]


@pytest.mark.parametrize("data", OTHERS)
def test_what_is_no_ck_key_is_refused_without_showing_it(data: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        decode_ck_key(data)
    shown = "".join(chain_of(caught.value))
    assert "BEEIOEOn3c3" not in shown  # the beginning of the private half
    assert DER.hex()[20:40] not in shown
    assert caught.value.__context__ is None


@pytest.mark.parametrize("kind", ["RSA", "Ed25519", "X25519", "DSA"])
def test_only_ec_keys_are_ck_keys(kind: str) -> None:
    der = private_key(kind).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(UsageError, match="not a whole ck- key"):
        decode_ck_key(ck(der))


def test_an_encrypted_key_is_refused() -> None:
    der = private_key("P-256").private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    with pytest.raises(UsageError, match="not a whole ck- key"):
        decode_ck_key(ck(der))


@given(st.integers(0, len(DER) - 1), st.binary(max_size=4))
def test_damage_is_a_usage_error_or_no_damage(place: int, put: bytes) -> None:
    try:
        key = decode_ck_key(ck(DER[:place] + put + DER[place + len(put) :]))
    except UsageError:
        return
    assert isinstance(key, ec.EllipticCurvePrivateKey)
