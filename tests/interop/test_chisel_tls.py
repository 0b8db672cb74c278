"""TLS, with and without clients' certificates, between chisel and us."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import Authority
from tests.support.programs import (
    READY,
    WITH_CHISEL,
    chisel_client,
    chisel_server,
    our_client,
    our_server,
)
from tests.support.targets import MiB, connect, echo, exchange, listening, random_bytes, sha256

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = WITH_CHISEL

PAIRS = {
    "chisel's client, our server": (our_server, chisel_client),
    "our client, chisel's server": (chisel_server, our_client),
    "both ours": (our_server, our_client),
}
DATA = random_bytes(4 * MiB)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("mutual", [False, True], ids=["one way", "mutual"])
async def test_a_tunnel_over_tls(pair: str, mutual: bool, tmp_path: Path) -> None:
    run_server, run_client = PAIRS[pair]
    ca = Authority(tmp_path / "ca")
    cert, key = ca.issue("localhost", file="server")
    theirs = ["--tls-cert", cert, "--tls-key", key]
    ours = ["--tls-ca", ca.path]
    if mutual:
        cert, key = ca.issue("client", file="client")
        theirs += ["--tls-ca", ca.path]
        ours += ["--tls-cert", cert, "--tls-key", key]
    async with listening(echo) as target, run_server(*theirs) as (_, url):
        url = "https://localhost:" + url.rpartition(":")[2]
        async with run_client(url, *ours, target=target) as (client, local):
            await client.wait_for(READY[run_client])
            # chisel 1.11 ends both directions at the first end.
            async with await connect(local) as stream:
                if run_client is our_client and run_server is our_server:
                    assert await exchange(stream, DATA) == (len(DATA), sha256(DATA))
                else:
                    await stream.send_all(b"hello")
                    assert await stream.receive_some() == b"hello"
