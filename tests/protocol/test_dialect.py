"""The names that chisel's and cotun's peers go by."""

import attrs
import pytest

from cotun_trio.protocol.dialect import CHISEL, COTUN, DIALECTS, Dialect, dialect_for_token


def test_the_names_are_those_on_the_wire() -> None:
    assert CHISEL.token == "chisel-v3"
    assert CHISEL.client_version == "SSH-chisel-v3-client"
    assert CHISEL.server_version == "SSH-chisel-v3-server"
    assert CHISEL.channel_type == b"chisel"
    assert COTUN.token == "costrict-v3"
    assert COTUN.client_version == "SSH-costrict-v3-client"
    assert COTUN.server_version == "SSH-costrict-v3-server"
    assert COTUN.channel_type == b"cotun"


def test_a_client_tries_chisel_first() -> None:
    assert [dialect.name for dialect in DIALECTS] == ["chisel", "cotun"]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_token_finds_its_dialect(dialect: Dialect) -> None:
    assert dialect_for_token(dialect.token) is dialect


@pytest.mark.parametrize(
    "token",
    [
        *("", "chisel", "cotun", "chisel-v2", "chisel-v33", "Chisel-v3", "costrict-v3\n"),
        *(" chisel-v3", "chisel-v3 ", "chisel-v3,costrict-v3", "chisel-v3, costrict-v3"),
    ],
)
def test_only_the_whole_value_is_a_token(token: str) -> None:
    assert dialect_for_token(token) is None


def test_a_dialect_cannot_be_changed() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        CHISEL.token = "other"  # type: ignore[misc]
