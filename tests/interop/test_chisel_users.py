"""Users files that chisel and we have in common."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cotun_trio.access.passwords import hash_password
from tests.support.programs import (
    READY,
    WITH_CHISEL,
    chisel,
    chisel_client,
    chisel_server,
    our_client,
    our_server,
    ours,
)
from tests.support.targets import LOOPBACK, connect, echo, echoes, listening

if TYPE_CHECKING:
    from pathlib import Path

    from cotun_trio.access.passwords import Scheme

pytestmark = WITH_CHISEL

PAIRS = {
    "chisel's client, our server": (our_server, chisel_client),
    "our client, chisel's server": (chisel_server, our_client),
    "both chisel": (chisel_server, chisel_client),
}
"""What chisel does with itself is here to show that the expectations are its own."""
DENIED = {
    "127.0.0.1:0:127.0.0.1:9": "127.0.0.1:9",
    "127.0.0.1:0:127.0.0.1:9/udp": "127.0.0.1:9",
    "R:127.0.0.1:7777:127.0.0.1:9": "R:127.0.0.1:7777",
}
"""Remotes, and how their refusal names them."""
BETWEEN = pytest.mark.parametrize("pair", PAIRS)


def users_file(directory: Path, **lists: list[str]) -> str:
    """Write a users file; every password is ``secret``."""
    path = directory / "users.json"
    path.write_text(json.dumps({f"{user}:secret": patterns for user, patterns in lists.items()}))
    path.chmod(0o600)
    return str(path)


@BETWEEN
async def test_a_user_gets_what_the_list_has(pair: str, tmp_path: Path) -> None:
    run_server, run_client = PAIRS[pair]
    async with listening(echo) as target:
        path = users_file(tmp_path, alice=[f"^{target}$".replace(".", r"\.")], bob=[])
        async with (
            run_server("--authfile", path) as (_, url),
            run_client(url, "--auth", "alice:secret", target=target) as (client, local),
        ):
            await client.wait_for(READY[run_client])
            async with await connect(local) as stream:
                assert await echoes(stream)


@BETWEEN
@pytest.mark.parametrize("remote", DENIED)
async def test_what_is_not_in_the_list_is_refused(pair: str, remote: str, tmp_path: Path) -> None:
    run_server, run_client = PAIRS[pair]
    path = users_file(tmp_path, alice=["^nowhere:1$"])
    program = chisel if run_client is chisel_client else ours
    async with (
        run_server("--authfile", path, "--reverse", "-v") as (_, url),
        program("client", "--auth", "alice:secret", url, remote) as client,
    ):
        await client.wait_for(f"access to '{DENIED[remote]}' denied")
        assert not client.find("Connected")


@BETWEEN
async def test_unanchored_patterns_match_as_in_go(pair: str, tmp_path: Path) -> None:
    run_server, run_client = PAIRS[pair]
    async with listening(echo) as target:
        path = users_file(tmp_path, alice=[rf"{LOOPBACK[:-2]}|nothing".replace(".", r"\.")])
        async with (
            run_server("--authfile", path) as (_, url),
            run_client(url, "--auth", "alice:secret", target=target) as (client, local),
        ):
            await client.wait_for(READY[run_client])
            async with await connect(local) as stream:
                assert await echoes(stream)


@pytest.mark.parametrize("scheme", ["argon2id", "bcrypt"])
async def test_a_go_client_logs_in_where_the_file_has_a_hash(
    scheme: Scheme, tmp_path: Path
) -> None:
    path = tmp_path / "users.json"
    path.write_text(json.dumps({f"alice:{hash_password('secret', scheme)}": [""]}))
    async with (
        listening(echo) as target,
        our_server("--authfile", str(path)) as (server, url),
        chisel_client(url, "--auth", "alice:wrong", target=target),
    ):
        await server.wait_for("Authentication failed from 127.0.0.1 for user 'alice'")
        async with chisel_client(url, "--auth", "alice:secret", target=target) as (client, local):
            await client.wait_for(READY[chisel_client])
            async with await connect(local) as stream:
                assert await echoes(stream)


async def test_a_go_client_with_too_many_sessions_tries_again_until_there_is_room(
    tmp_path: Path,
) -> None:
    path = users_file(tmp_path, alice=[""])
    auth = ("--auth", "alice:secret")
    async with (
        listening(echo) as target,
        our_server("--authfile", path, "--max-user-sessions", "1") as (server, url),
    ):
        async with chisel_client(url, *auth, target=target) as (first, _):
            await first.wait_for(READY[chisel_client])
            async with chisel_client(url, *auth, target=target) as (second, local):
                await second.wait_for("too many sessions of the user 'alice'")
                await first.stop()
                await second.wait_for(READY[chisel_client])
                async with await connect(local) as stream:
                    assert await echoes(stream)
        assert not server.find("Authentication failed")
