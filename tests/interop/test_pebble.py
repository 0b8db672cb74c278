"""Certificates by ACME, from Pebble, the authority that Let's Encrypt made for tests."""

from __future__ import annotations

import contextlib
import json
import ssl
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from cotun_trio.server import acme_certificates
from cotun_trio.server.acme_certificates import AcmeCertificates
from cotun_trio.settings import ServerAcme
from cotun_trio.units import parse_duration
from tests.support.certificates import Authority
from tests.support.log_watch import watch_logs
from tests.support.peers import needs
from tests.support.programs import our_client, ours, running
from tests.support.targets import (
    LOOPBACK,
    connect,
    echo,
    echoes,
    free_port,
    listening,
    receive_all,
)
from tests.support.tunnel import running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.programs import Program

pytestmark = [
    pytest.mark.slow,
    pytest.mark.interop,
    needs("pebble", "pebble-challtestsrv"),
]
NAME = "tunnel.example.com"


@attrs.frozen
class Pebble:
    """An authority that looks for servers on one port."""

    program: Program
    port: int
    environment: dict[str, str]
    roots: str
    """Where its root is to be had."""
    ca: Authority

    async def root(self, directory: Path) -> str:
        """Return the path of a file with its root."""
        context = ssl.create_default_context(cafile=self.ca.path)
        stream = trio.SSLStream(
            await connect(self.roots), context, server_hostname=LOOPBACK, https_compatible=True
        )
        async with stream.transport_stream:
            await stream.send_all(b"GET /roots/0 HTTP/1.0\r\n\r\n")
            data = b"".join([chunk async for chunk in stream])
        path = directory / "root.pem"
        path.write_bytes(data.partition(b"\r\n\r\n")[2])
        return str(path)


@contextlib.asynccontextmanager
async def pebble(directory: Path, *, http_port: int | None = None) -> AsyncIterator[Pebble]:
    ca = Authority(directory / "ca")
    cert, key = ca.issue(LOOPBACK)
    listen, manage, dns, dns_manage, port = (free_port() for _ in range(5))
    config = directory / "pebble.json"
    config.write_text(
        json.dumps(
            {
                "pebble": {
                    "listenAddress": f"{LOOPBACK}:{listen}",
                    "managementListenAddress": f"{LOOPBACK}:{manage}",
                    "certificate": cert,
                    "privateKey": key,
                    "httpPort": http_port or port,
                    "tlsPort": port,
                }
            }
        )
    )
    names = ["pebble-challtestsrv", "-dns01", f"{LOOPBACK}:{dns}", "-defaultIPv6", ""]
    names += ["-defaultIPv4", LOOPBACK, "-management", f"{LOOPBACK}:{dns_manage}"]
    names += ["-http01", "", "-https01", "", "-tlsalpn01", ""]
    async with (
        running(*names) as resolver,
        running(
            *("pebble", "-config", str(config), "-dnsserver", f"{LOOPBACK}:{dns}"),
            # Two good nonces refused in a row, as it does by chance, have us wait for a minute.
            env={
                "PEBBLE_VA_NOSLEEP": "1",
                "PEBBLE_AUTHZREUSE": "0",
                "PEBBLE_WFE_NONCEREJECT": "0",
            },
        ) as program,
    ):
        await resolver.wait_for("[Ss]tarting")
        await program.wait_for("ACME directory available")
        environment = {
            "COTUN_LE_DIRECTORY": f"https://{LOOPBACK}:{listen}/dir",
            "COTUN_LE_CA": ca.path,
            "COTUN_LE_CACHE": str(directory / "cache"),
            "COTUN_LE_EMAIL": "root@example.com",
        }
        yield Pebble(program, port, environment, f"{LOOPBACK}:{manage}", ca)


def server(authority: Pebble, *options: str) -> contextlib.AbstractAsyncContextManager[Program]:
    return ours(
        *("server", "--host", LOOPBACK, "--port", str(authority.port), "--tls-domain", NAME),
        *options,
        env=authority.environment,
    )


async def test_a_certificate_is_issued_used_and_kept(tmp_path: Path) -> None:
    async with pebble(tmp_path) as authority, listening(echo) as target:
        async with server(authority) as program:
            await program.wait_for(f"has a certificate for {NAME}")
            root = await authority.root(tmp_path)
            options = ("--tls-ca", root, "--sni", NAME)
            url = f"https://{LOOPBACK}:{authority.port}"
            async with our_client(url, *options, target=target) as (client, local):
                await client.wait_for(r"Connected \(Latency ")
                async with await connect(local) as stream:
                    assert await echoes(stream)
            # Other names are refused, and so is none.
            for name in ("other.example.com", LOOPBACK):
                async with our_client(url, "--tls-ca", root, "--sni", name, target=target) as (
                    client,
                    _,
                ):
                    await client.wait_for("TLS: the server does not know this name")
        orders = len(authority.program.find("new-order|order-plz"))
        cache = tmp_path / "cache"
        files = [path for path in cache.rglob("*") if path.is_file()]
        assert {path.name for path in files} == {"account.pem", f"{NAME}.pem"}
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
        assert stat.S_IMODE(files[0].parent.stat().st_mode) == 0o700
        # Started again, it has the certificate and asks nobody.
        async with server(authority) as program:
            await program.wait_for("Listening on https://")
            async with our_client(url, *options, target=target) as (client, _):
                await client.wait_for(r"Connected \(Latency ")
            assert not program.find("certificate for")
        assert len(authority.program.find("new-order|order-plz")) == orders
        # With the account of before, and without the certificate, there is another one.
        (cache / LOOPBACK / f"{NAME}.pem").unlink()
        async with server(authority) as program:
            await program.wait_for(f"has a certificate for {NAME}")


async def test_a_challenge_that_fails_is_tried_again_later(tmp_path: Path) -> None:
    async with pebble(tmp_path) as authority:
        port = str(free_port())  # where the authority does not look
        async with ours(
            *("server", "--host", LOOPBACK, "--port", port, "--tls-domain", NAME),
            env=authority.environment,
        ) as program:
            found = await program.wait_for(rf"no certificate: {NAME}: .*: trying again in (\S+)$")
            assert 50 < parse_duration(found[1]) < 70
            assert len(program.find("getting a certificate")) == 1


async def test_where_only_port_80_is_reached_the_challenge_is_shown_there_and_it_is_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    http_port = free_port()
    monkeypatch.setattr("cotun_trio.server.listening.HTTP_PORT", http_port)
    monkeypatch.setattr(acme_certificates, "FIRST_RETRY", 0.1)
    monkeypatch.setattr(acme_certificates, "NAP", 0.1)
    async with pebble(tmp_path, http_port=http_port) as authority, watch_logs() as log:
        acme = ServerAcme.choose([NAME], authority.environment, clients=None)
        async with running_server(tls=acme) as server:
            await log.wait_for("no certificate: .*tls-alpn-01", timeout=30)
            await log.wait_for(f"has a certificate for {NAME}", timeout=30)
            async with await connect(f"{LOOPBACK}:{http_port}") as stream:
                await stream.send_all(f"GET /a?b HTTP/1.1\r\nHost: {NAME}:80\r\n\r\n".encode())
                answer = await receive_all(stream)
            assert answer.startswith(b"HTTP/1.1 308 ")
            assert f"\r\nLocation: https://{NAME}/a?b\r\n".encode() in answer
            async with await connect(f"{LOOPBACK}:{http_port}") as stream:
                await stream.send_all(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
                assert (await receive_all(stream)).startswith(b"HTTP/1.1 404 ")
            # And when the time has come, there is another one.
            certificates = server.files.certificates
            assert isinstance(certificates, AcmeCertificates)
            before = certificates._contexts[NAME]
            certificates._renewals[NAME] = datetime.now(UTC)
            await log.wait_for(f"has a certificate for {NAME}", times=2, timeout=30)
            assert certificates._contexts[NAME] is not before


async def test_an_authority_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    async with ours(
        *("server", "--host", LOOPBACK, "--port", "0", "--tls-domain", NAME),
        env={
            "COTUN_LE_DIRECTORY": f"https://{LOOPBACK}:{free_port()}/dir",
            "COTUN_LE_CACHE": "-",
        },
    ) as program:
        await program.wait_for("warning: the authority will look for this server on port 443")
        await program.wait_for(f"no certificate: {NAME}: .*trying again in ")
        assert not program.find("has a certificate")
