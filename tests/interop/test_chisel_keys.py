"""Host keys and fingerprints that go to the Go original, chisel, and back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from cotun_trio.access.fingerprints import fingerprint, legacy_fingerprint
from cotun_trio.access.host_keys import decode_host_key
from tests.support.keys import OPENSSH, VECTORS, pem, public_blob
from tests.support.programs import (
    WITH_CHISEL,
    chisel,
    chisel_client,
    chisel_server,
    our_client,
    our_server,
    ours,
)
from tests.support.targets import connect, echo, echoes, listening

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.programs import Program

pytestmark = WITH_CHISEL

BOTH = pytest.mark.parametrize("theirs", [False, True], ids=["our server", "their server"])
CONNECTED = r"Connected \(Latency "
READY = {False: "client: tun: SSH connected", True: CONNECTED}
"""What the client says when a connection can go through; chisel's says that later."""


async def shown_by(server: Program) -> str:
    """Return the fingerprint that a server of either kind shows."""
    return (await server.wait_for(r"Fingerprint (\S{43}=)"))[1]


@pytest.mark.parametrize("seed", [[], ["--key", "foobar"]], ids=["random", "seeded"])
@pytest.mark.parametrize("by", ["chisel", "us"])
async def test_a_key_file_has_the_same_fingerprint_at_both(
    by: str, seed: list[str], tmp_path: Path
) -> None:
    path = str(tmp_path / "host.key")
    program = chisel if by == "chisel" else ours
    async with program("server", "--keygen", path, *seed) as keygen:
        assert await keygen.wait() == 0
    expected = fingerprint(decode_host_key((tmp_path / "host.key").read_bytes()).asbytes())
    async with (
        chisel_server("--keyfile", path) as (theirs, _),
        our_server("--keyfile", path) as (our, _),
    ):
        assert await shown_by(theirs) == await shown_by(our) == expected
    assert not seed or expected == VECTORS[0]["fingerprint_sha256"]


async def test_a_seed_prints_the_same_key_at_both() -> None:
    said = []
    for program in (chisel, ours):
        async with program("server", "--keygen", "-", "--key", "a seed, ключ") as keygen:
            assert await keygen.wait() == 0
            said.append(keygen.lines)
    assert said[0] == said[1]
    assert len(said[0]) == 1


@BOTH
@pytest.mark.parametrize("form", ["fingerprint_sha256", "fingerprint_md5_legacy"])
async def test_a_ck_key_and_its_fingerprint_in_either_form_let_in(theirs: bool, form: str) -> None:
    run_server, run_client = (chisel_server, our_client) if theirs else (our_server, chisel_client)
    vector = VECTORS[1]
    async with (
        listening(echo) as target,
        run_server("--keyfile", vector["keygen_stdout"]) as (_, url),
        run_client(url, "--fingerprint", vector[form], target=target) as (client, local),
    ):
        await client.wait_for(READY[theirs])
        if form == "fingerprint_md5_legacy":
            await client.wait_for(f"MD5.*{re.escape(vector['fingerprint_sha256'])}")
        async with await connect(local) as stream:
            assert await echoes(stream)


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521", "RSA", "Ed25519"])
async def test_chisels_client_knows_our_server_by_a_key_of_every_kind(
    kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "host.pem"
    path.write_bytes(pem(kind))
    path.chmod(0o600)
    expected = fingerprint(public_blob(kind))
    async with (
        listening(echo) as target,
        our_server("--keyfile", str(path)) as (server, url),
        chisel_client(url, "--fingerprint", expected, target=target) as (client, local),
    ):
        assert await shown_by(server) == expected
        await client.wait_for(READY[False])
        async with await connect(local) as stream:
            assert await echoes(stream)


@pytest.mark.parametrize("kind", ["P-384", "RSA", "Ed25519"])
async def test_our_client_knows_chisels_server_by_a_key_of_every_kind(
    kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "host.pem"
    path.write_bytes(pem(kind, OPENSSH))
    expected = fingerprint(public_blob(kind))
    async with (
        listening(echo) as target,
        chisel_server("--keyfile", str(path)) as (server, url),
        our_client(url, "--fingerprint", expected, target=target) as (client, local),
    ):
        assert await shown_by(server) == expected
        await client.wait_for(CONNECTED)
        async with await connect(local) as stream:
            assert await echoes(stream)


@BOTH
@pytest.mark.parametrize("form", [fingerprint, legacy_fingerprint])
async def test_the_fingerprint_of_another_key_is_refused(theirs: bool, form: object) -> None:
    run_server, run_client = (chisel_server, our_client) if theirs else (our_server, chisel_client)
    assert callable(form)
    wrong = form(public_blob("Ed25519"))
    async with (
        run_server("--keyfile", VECTORS[0]["keygen_stdout"]) as (_, url),
        run_client(url, "--fingerprint", wrong, target="x:1") as (client, _),
    ):
        await client.wait_for(r"Invalid fingerprint \(")
        assert not client.find(CONNECTED)
