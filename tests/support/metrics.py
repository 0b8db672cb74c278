"""A server and a client that have every figure there is, and their expositions."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from cotun_trio.access.credentials import Credentials
from cotun_trio.admin.metrics import exposition
from cotun_trio.server import certificates
from cotun_trio.settings import ClientTls, ServerTls
from tests.support.certificates import Authority
from tests.support.targets import LOOPBACK
from tests.support.tunnel import Tunnel, running_client, running_server
from tests.support.watching import nothing_watched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from cotun_trio.admin.watched import Watched

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


@contextlib.asynccontextmanager
async def full_tunnel(directory: Path) -> AsyncIterator[Tunnel]:
    """Run a server and a client, both with a certificate, and with figures for each user."""
    authority = Authority(directory / "ca")
    server_pair = authority.issue(LOOPBACK, file="server")
    client_pair = authority.issue("alice", file="client")
    with nothing_watched(certificates):
        async with (
            running_server(
                tls=ServerTls(cert=server_pair[0], key=server_pair[1], ca=authority.path),
                auth="alice:secret",
                metrics_per_user=True,
            ) as server,
            running_client(
                f"https://{server.addresses[0]}",
                "0:x:1",
                auth=Credentials("alice", "secret"),
                tls=ClientTls(ca=authority.path, cert=client_pair[0], key=client_pair[1]),
            ) as client,
        ):
            await client.opened()
            yield Tunnel(server, client)


async def samples(watched: Watched) -> dict[tuple[str, ...], float]:
    """Return the value of each sample, by its name and the values of its labels."""
    body, _ = await exposition(watched, OPEN_METRICS)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(body.decode())  # type: ignore[no-untyped-call]
        for sample in family.samples
    }
