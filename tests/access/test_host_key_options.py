"""Which host key a server has: what wins, what is warned of, who is named in an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cotun_trio.access.fingerprints import fingerprint
from cotun_trio.access.host_key_options import choose_host_key, make_key
from cotun_trio.access.host_keys import decode_host_key
from cotun_trio.errors import UsageError
from tests.support.keys import VECTORS

if TYPE_CHECKING:
    from collections.abc import Mapping

FOOBAR, HELLO = VECTORS[0], VECTORS[1]


def choose(
    *, seed: str | None = None, keyfile: str | None = None, **environment: str
) -> tuple[str, list[str]]:
    """Return the fingerprint of the key that is chosen, and the warnings."""
    warnings: list[str] = []
    key = choose_host_key(seed=seed, keyfile=keyfile, environment=environment, warn=warnings.append)
    return fingerprint(key.asbytes()), warnings


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: repr(vector["seed"][:12]))
def test_key_gives_the_fingerprint_of_chisel_and_a_warning_that_says_what_to_do(
    vector: dict[str, str],
) -> None:
    got, warnings = choose(seed=vector["seed"])
    assert got == vector["fingerprint_sha256"]
    assert len(warnings) == 1
    assert warnings[0].startswith("--key is deprecated: ")
    assert "'cotun-trio server --key SEED --keygen FILE'" in warnings[0]
    assert "--keyfile FILE" in warnings[0]
    assert len(vector["seed"]) < 2 or vector["seed"] not in warnings[0]


def test_the_variable_of_key_is_named_in_its_warning() -> None:
    got, warnings = choose(COTUN_KEY="foobar")
    assert got == FOOBAR["fingerprint_sha256"]
    assert [line.partition(" is ")[0] for line in warnings] == ["COTUN_KEY"]
    assert "foobar" not in warnings[0]


def test_the_option_wins_over_its_variable() -> None:
    assert choose(seed="foobar", COTUN_KEY="other")[0] == FOOBAR["fingerprint_sha256"]
    chosen = choose(keyfile=FOOBAR["keygen_stdout"], COTUN_KEY_FILE=HELLO["keygen_stdout"])
    assert chosen == (FOOBAR["fingerprint_sha256"], [])


def test_the_variables_have_the_names_of_chisel_too() -> None:
    got, warnings = choose(CHISEL_KEY="foobar")
    assert got == FOOBAR["fingerprint_sha256"]
    assert [line.partition(" is ")[0] for line in warnings] == ["CHISEL_KEY"]
    assert choose(CHISEL_KEY="other", COTUN_KEY="foobar")[0] == FOOBAR["fingerprint_sha256"]
    assert choose(CHISEL_KEY_FILE=HELLO["keygen_stdout"]) == (HELLO["fingerprint_sha256"], [])


def test_the_variable_of_keyfile_is_heeded() -> None:
    assert choose(COTUN_KEY_FILE=HELLO["keygen_stdout"]) == (HELLO["fingerprint_sha256"], [])


@pytest.mark.parametrize(
    ("given", "warning"),
    [
        ({"keyfile": HELLO["keygen_stdout"], "seed": "foobar"}, "--key is ignored: --keyfile "),
        (
            {"COTUN_KEY_FILE": HELLO["keygen_stdout"], "seed": "foobar"},
            "--key is ignored: COTUN_KEY_FILE ",
        ),
        (
            {"keyfile": HELLO["keygen_stdout"], "COTUN_KEY": "foobar"},
            "COTUN_KEY is ignored: --keyfile ",
        ),
    ],
    ids=["options", "a variable's file", "a variable's seed"],
)
def test_a_key_file_wins_over_a_seed_with_a_warning(given: Mapping[str, str], warning: str) -> None:
    got, warnings = choose(**given)
    assert got == HELLO["fingerprint_sha256"]
    assert len(warnings) == 1
    assert warnings[0].startswith(warning)


def test_without_an_option_or_variable_every_run_has_its_own_key() -> None:
    (first, warnings), (second, _) = choose(), choose()
    assert first != second
    assert warnings == []


def test_an_empty_option_or_variable_counts_as_not_given() -> None:
    first, second = (choose(seed="", keyfile="", COTUN_KEY="", COTUN_KEY_FILE="") for _ in range(2))
    assert first[0] != second[0]
    assert choose(seed="", COTUN_KEY="foobar")[0] == FOOBAR["fingerprint_sha256"]
    assert choose(keyfile="", COTUN_KEY_FILE=FOOBAR["keygen_stdout"])[1] == []


def test_an_error_names_where_the_key_was_given() -> None:
    with pytest.raises(UsageError, match=r"^--keyfile: there is no such file"):
        choose(keyfile="/no/such/file")
    with pytest.raises(UsageError, match=r"^COTUN_KEY_FILE: this is not a whole ck- key"):
        choose(COTUN_KEY_FILE="ck-AAAA")


def test_a_key_file_that_is_broken_is_not_replaced_by_a_seed_or_a_new_key() -> None:
    with pytest.raises(UsageError):
        choose(keyfile="/no/such/file", seed="foobar", COTUN_KEY_FILE=FOOBAR["keygen_stdout"])


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: repr(vector["seed"][:12]))
def test_the_key_of_a_seed_can_be_kept(vector: dict[str, str]) -> None:
    text, key, seed_from = make_key(vector["seed"], {"COTUN_KEY": "other"})
    assert text == vector["keygen_stdout"]
    assert fingerprint(key.asbytes()) == vector["fingerprint_sha256"]
    assert seed_from == "--key"


def test_the_key_of_a_seed_in_the_variable_can_be_kept() -> None:
    text, _key, seed_from = make_key(None, {"COTUN_KEY": FOOBAR["seed"]})
    assert (text, seed_from) == (FOOBAR["keygen_stdout"], "COTUN_KEY")


@pytest.mark.parametrize("seed", [None, ""])
def test_without_a_seed_every_key_is_new(seed: str | None) -> None:
    (first, key, seed_from), (second, _, _) = (make_key(seed, {"COTUN_KEY": ""}) for _ in range(2))
    assert first != second
    assert seed_from is None
    assert decode_host_key(first.encode()).asbytes() == key.asbytes()
