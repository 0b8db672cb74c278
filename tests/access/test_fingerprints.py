"""Fingerprints: the vectors of the Go original, exactly, and nothing that only looks like one."""

from __future__ import annotations

import base64
import hmac
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.access.fingerprints import (
    LENGTH,
    check_fingerprint,
    check_form,
    fingerprint,
    is_legacy,
    legacy_fingerprint,
)
from cotun_trio.errors import FingerprintMismatch, UsageError
from tests.support.keys import VECTORS

if TYPE_CHECKING:
    from collections.abc import Callable

BLOB = base64.b64decode(VECTORS[0]["public_openssh"].split()[1])
SHA256 = VECTORS[0]["fingerprint_sha256"]
MD5 = VECTORS[0]["fingerprint_md5_legacy"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: repr(vector["seed"][:12]))
def test_both_forms_are_those_of_chisel(vector: dict[str, str]) -> None:
    blob = base64.b64decode(vector["public_openssh"].split()[1])
    assert fingerprint(blob) == vector["fingerprint_sha256"]
    assert legacy_fingerprint(blob) == vector["fingerprint_md5_legacy"]
    assert not is_legacy(fingerprint(blob))
    assert is_legacy(legacy_fingerprint(blob))


@given(st.binary())
def test_a_fingerprint_that_is_shown_can_be_given_as_an_option(blob: bytes) -> None:
    assert len(fingerprint(blob)) == LENGTH
    for shown in (fingerprint(blob), legacy_fingerprint(blob)):
        assert check_form(shown) == shown
        check_fingerprint(blob, shown)


def test_the_legacy_form_is_taken_in_either_case() -> None:
    assert MD5.upper() != MD5
    assert check_form(MD5.upper()) == MD5.upper()
    check_fingerprint(BLOB, MD5.upper())


def test_the_case_of_the_other_form_counts() -> None:
    with pytest.raises(FingerprintMismatch):
        check_fingerprint(BLOB, check_form(SHA256[:40].swapcase() + SHA256[40:]))


@pytest.mark.parametrize("expected", [fingerprint(b"another"), legacy_fingerprint(b"another")])
def test_another_key_is_refused_and_its_fingerprint_said(expected: str) -> None:
    with pytest.raises(FingerprintMismatch) as caught:
        check_fingerprint(BLOB, expected)
    seen = SHA256 if len(expected) == LENGTH else f"{SHA256}, or {MD5}"
    text = str(caught.value)
    assert text.startswith(f"Invalid fingerprint ({seen}): --fingerprint is {expected}.  ")
    assert "has a new key" in text
    assert "an attacker poses as the server" in text


@pytest.mark.parametrize("form", [fingerprint, legacy_fingerprint])
def test_one_wrong_character_anywhere_is_another_key(form: Callable[[bytes], str]) -> None:
    right = form(BLOB)
    for place in range(len(right)):
        if right[place] not in ":=":
            wrong = right[:place] + ("1" if right[place] == "0" else "0") + right[place + 1 :]
            with pytest.raises(FingerprintMismatch):
                check_fingerprint(BLOB, wrong)


@pytest.mark.parametrize("expected", [SHA256, MD5])
def test_the_comparison_takes_constant_time(expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[object, object]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return False  # nothing else decides

    monkeypatch.setattr(hmac, "compare_digest", compare)
    with pytest.raises(FingerprintMismatch):
        check_fingerprint(BLOB, expected)
    assert len(compared) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=",
        SHA256[:-1],  # OpenSSH's form, and what a double click leaves
        SHA256[:10],
        SHA256 + "=",
        SHA256 + SHA256,
        f" {SHA256}",
        f"{SHA256}\n",
        f"SHA256:{SHA256[:-1]}",
        SHA256.replace("+", "-").replace("/", "_"),
        SHA256[:-2] + "x=",  # decodes to the same octets, and is no key's
        base64.b64encode(b"31 octets, which are one too few").decode()[:40] + "AA==",
        MD5[:-1],
        MD5[:-3],
        MD5[:20],
        f"{MD5}:00",
        f"{MD5}\n",
        f"MD5:{MD5}",
        MD5.replace(":", ""),
        MD5.replace("c", "g"),
        "é" * 44,
        "\uff14" * 44,
        "\u0663" * 2 + MD5[2:],
        "\ud800" * 44,
    ],
)
def test_anything_else_is_refused_at_once(text: str) -> None:
    with pytest.raises(UsageError, match="is not a fingerprint: copy the 44 characters"):
        check_form(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SHA256[:-2] + "x=", "the length is right, but no fingerprint ends in 'x='"),
        (SHA256[:-2] + "AA", "the length is right, but no fingerprint ends in 'AA'"),
        (SHA256[:-2] + "=E", "the length is right, but no fingerprint ends in '=E'"),
        (SHA256[:-1], "the '=' at its end is missing"),
        (f"SHA256:{SHA256[:-1]}", "it has no 'SHA256:' before it"),
    ],
)
def test_a_text_that_is_nearly_one_is_told_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_form(text)
    assert str(caught.value).endswith(f"after 'Fingerprint'; {said}")


def test_only_sixteen_characters_can_be_before_the_last_one() -> None:
    for octet in range(256):
        shown = base64.b64encode(bytes([*range(31), octet])).decode()
        with pytest.raises(UsageError, match="the '=' at its end is missing"):
            check_form(shown[:-1])


@given(st.text(alphabet=st.characters(), max_size=60))
def test_what_is_refused_is_refused_as_such_and_can_be_printed(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_form(text)
    assert str(caught.value).isprintable()
