"""README's recipes for what stands in front of a server, or of a client."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scripts.peers import find
from tests.support.command_lines import understood
from tests.support.peers import needs
from tests.support.readme import blocks, section

if TYPE_CHECKING:
    from tests.readme.conftest import Meet, TwoMachines

pytestmark = [pytest.mark.slow, pytest.mark.interop]

WEB = (
    "echo hello >index.html; exec python3 -m http.server --bind 127.0.0.1 3000",
    "Serving HTTP on",
)
FETCH = "curl -sS http://127.0.0.1:8000/"


async def reaches(both: TwoMachines, client: str) -> None:
    """Check that a client with the remote of README's first use leads to the web server."""
    async with both.inside.running(WEB[0], until=WEB[1]), both.client(client):
        assert await both.own.run(FETCH) == "hello"


@needs("curl", "nginx")
async def test_a_tunnel_is_a_path_behind_nginx(meet: Meet) -> None:
    with section("Behind nginx") as (server, location, client):
        async with meet() as both, both.server(server.text) as program:
            both.inside.path("nginx.conf").write_text(
                "daemon off; error_log stderr notice; pid /run/nginx.pid; events {} http { "
                f"access_log off; server {{ listen 80; {location.text} }} }}"
            )
            start = f"exec {find('nginx')} -c $PWD/nginx.conf"
            async with both.inside.running(start, until="start worker process"):
                await reaches(both, client.text)
            # The server knows the address of its client.
            await program.wait_for(" client=10.7.0.2 ")


async def behind(both: TwoMachines, start: str, until: str) -> None:
    """Do the same behind another proxy, with the server and the client of the recipe for nginx."""
    server, _location, client = blocks()["Behind nginx"]
    async with both.server(server) as program:
        async with both.inside.running(start, until=until):
            await reaches(both, client)
        await program.wait_for(" client=10.7.0.2 ")


@needs("curl", "haproxy")
async def test_a_tunnel_is_a_path_behind_haproxy(meet: Meet) -> None:
    with section("Behind HAProxy") as (config,):
        async with meet() as both:
            both.inside.path("haproxy.cfg").write_text(config.text + "\n")
            checked = await both.inside.run(f"{find('haproxy')} -c -f haproxy.cfg")
            assert "WARNING" not in checked
            start = f"exec {find('haproxy')} -W -db -f haproxy.cfg"
            await behind(both, start, "Loading success|New worker .* forked")


@needs("curl", "caddy")
async def test_a_tunnel_is_a_path_behind_caddy(meet: Meet) -> None:
    with section("Behind Caddy") as (config,):
        async with meet() as both:
            both.inside.path("Caddyfile").write_text(config.text + "\n")
            await behind(both, "exec caddy run --config Caddyfile", "serving initial configuration")


def test_the_command_for_cloudflare_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cotun.toml").write_text("[client]\n")
    with section("Behind Cloudflare") as (client,):
        options = understood(client.text)
    assert options["server"] == ["https://tunnel.example.com"]


TINYPROXY = """
Port 3128
Listen 10.7.0.1
Timeout 600
LogLevel Info
BasicAuth user password
ConnectPort 443
"""


@needs("curl", "openssl", "tinyproxy")
async def test_a_client_goes_through_a_corporate_proxy(meet: Meet) -> None:
    with (
        section("Through a corporate proxy") as (client,),
        section("TLS and certificates") as (server, by_acme, plain_client),
    ):
        assert understood(by_acme.text)["tls_domain"] == ["inside.example.com"]
        async with meet() as both:
            await both.certify()
            async with both.server(server.text):
                await reaches(both, plain_client.text)
                both.own.knows(proxy_example_com="10.7.0.1")
                both.inside.path("tinyproxy.conf").write_text(TINYPROXY)
                start = f"exec {find('tinyproxy')} -d -c tinyproxy.conf"
                async with both.inside.running(start, until="Starting main loop"):
                    await reaches(both, client.text)
