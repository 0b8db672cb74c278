"""README, from a clone to a second machine, as typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.machines import machine, two_machines
from tests.support.peers import needs
from tests.support.readme import FINGERPRINT, looks_like, section

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.interop]

CONNECTED = r"Connected \(Latency "
SERVES = "Serving HTTP on"


@needs("curl")
async def test_a_first_use_on_one_machine(place: Path) -> None:
    with section("On one machine") as (server, client, fetch, fetched):
        async with (
            machine(place / "one", "one") as one,
            one.running(server.text, until="Listening on http") as program,
            one.running(client.text, until=CONNECTED),
        ):
            await program.wait_for(SERVES)
            assert looks_like(fetched.text).search(await one.run(fetch.text))


@needs("curl")
async def test_a_first_use_on_two_machines(place: Path) -> None:
    with section("On two machines") as (serve, said, way, through, client, fetch):
        async with two_machines(place) as (inside, own):
            page = "echo hello >index.html; exec python3 -m http.server --bind 127.0.0.1 3000"
            async with (
                inside.running(page, until=SERVES),
                inside.running(serve.text, until="Listening on http") as server,
            ):
                fingerprint = server.find(r"Fingerprint (\S+)$")[0][1]
                lines = "\n".join(server.lines)
                assert looks_like(said.text.replace(FINGERPRINT, fingerprint)).search(lines)
                answer = await own.run(way.text.replace(FINGERPRINT, fingerprint))
                assert answer.endswith(through.text)
                async with own.running(client.text, until=CONNECTED):
                    assert "hello" in await own.run(fetch.text)
