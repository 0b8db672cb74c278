"""Host keys and fingerprints, held against what chisel made of the same keys."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.access.host_keys import (
    LENGTH,
    check_fingerprint,
    check_form,
    fingerprint,
    generate_host_key,
)
from cotun_trio.errors import FingerprintMismatch, UsageError

VECTORS = Path(__file__).parents[1] / "vectors"
KEYS = json.loads((VECTORS / "keys.json").read_text())["keys"]
by_seed = pytest.mark.parametrize("row", KEYS, ids=lambda row: ascii(row["seed"][:20]))
RIGHT = KEYS[0]["fingerprint_sha256"]


def blob(row: dict[str, str]) -> bytes:
    """Return the public key of a recorded row, from the line that OpenSSH would have for it."""
    return base64.b64decode(row["public_openssh"].split()[1])


@by_seed
def test_a_fingerprint_is_what_chisel_prints(row: dict[str, str]) -> None:
    assert fingerprint(blob(row)) == row["fingerprint_sha256"]
    check_fingerprint(blob(row), row["fingerprint_sha256"])


@by_seed
def test_every_recorded_fingerprint_has_the_form_of_one(row: dict[str, str]) -> None:
    assert check_form(row["fingerprint_sha256"]) == row["fingerprint_sha256"]
    assert len(row["fingerprint_sha256"]) == LENGTH


@given(st.binary())
def test_any_fingerprint_has_the_form_of_one(data: bytes) -> None:
    assert check_form(fingerprint(data)) == fingerprint(data)


@pytest.mark.parametrize(
    "text",
    [
        "",
        RIGHT[:-1],
        RIGHT[:-1] + "A",
        RIGHT[:-2] + "==",
        RIGHT + "=",
        RIGHT + "\n",
        " " + RIGHT,
        RIGHT[:-1] + " ",
        "SHA256:" + RIGHT,
        "SHA256:" + RIGHT[:-1],
        RIGHT[:20] + "-" + RIGHT[21:],
        RIGHT[:20] + "\n" + RIGHT[21:],
        RIGHT[:20] + "é" + RIGHT[21:],
        "=" * LENGTH,
        KEYS[0]["fingerprint_md5_legacy"],
    ],
)
def test_what_has_another_form_is_the_users_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_form(text)
    assert str(caught.value).isprintable()


@by_seed
def test_another_key_is_a_mismatch_that_shows_what_came(row: dict[str, str]) -> None:
    for other in KEYS:
        if other is not row:
            with pytest.raises(FingerprintMismatch) as caught:
                check_fingerprint(blob(row), other["fingerprint_sha256"])
            assert str(caught.value) == f"Invalid fingerprint ({row['fingerprint_sha256']})"
            assert caught.value.fatal


@pytest.mark.parametrize("at", [0, 21, LENGTH - 2])
def test_a_fingerprint_counts_to_its_last_character(at: int) -> None:
    other = "A" if RIGHT[at] != "A" else "B"
    for wrong in (RIGHT[:at] + other + RIGHT[at + 1 :], RIGHT[:at], "", "é" * LENGTH):
        with pytest.raises(FingerprintMismatch):
            check_fingerprint(blob(KEYS[0]), wrong)


def test_a_new_host_key_is_of_the_kind_that_go_servers_have() -> None:
    one, two = generate_host_key(), generate_host_key()
    assert one.get_name() == "ecdsa-sha2-nistp256"
    assert one.can_sign()
    assert fingerprint(one.asbytes()) != fingerprint(two.asbytes())
