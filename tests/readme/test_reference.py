"""README's reference: its commands as typed, and its tables beside what is there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.support.peers import needs
from tests.support.readme import looks_like, section

if TYPE_CHECKING:
    from tests.readme.conftest import Meet

WEB = "echo hello >index.html; exec python3 -m http.server --bind 127.0.0.1 3000"
SERVES = "Serving HTTP on"

pytestmark = pytest.mark.slow


async def test_visitors_and_balancers(meet: Meet) -> None:
    with section("Visitors and balancers") as (checked, server):
        async with meet() as both:
            await both.own.run(checked.text)
            async with both.server(server.text):
                pass


async def test_users_and_where_they_may_go(meet: Meet) -> None:
    with section("Users, and where they may go") as (serve, allowed, hashed, filtered):
        assert filtered.text.startswith("failregex = ")  # tests/test_readme.py tries it
        async with meet() as both, both.server(serve.text) as server:
            assert looks_like(allowed.text).search("\n".join(server.lines))
            assert "there are no users" not in "\n".join(server.lines)
            said = await both.inside.run(f"{hashed.text} <<<hidden")
            assert said.startswith("bob:$argon2id$")
            # Bob's password in the file is a hash of this one; he may have what his list says.
            typed = "cotun-trio client --auth bob:hidden --fingerprint QpUjJ1…= {} {}"
            url = "http://inside.example.com:8080"
            async with both.client(typed.format(url, "socks")):
                pass
            refused = both.typed(typed.format(url, "R:8081:localhost:22"))
            assert "access to 'R:0.0.0.0:8081' denied" in await both.own.run(refused, status=5)


@needs("curl")
@pytest.mark.interop
async def test_a_web_site_around_the_tunnel(meet: Meet) -> None:
    with section("A web site around the tunnel") as (server,):
        async with (
            meet() as both,
            both.inside.running(WEB, until=SERVES),
            both.server(server.text),
        ):
            assert await both.own.run("curl -sS http://inside.example.com/") == "hello"
            assert await both.inside.run("curl -sS http://127.0.0.1:8081/health") == "OK"


async def test_a_configuration_file(meet: Meet) -> None:
    with section("Configuration file") as (checked,):
        async with meet() as both:
            both.inside.path("users.json").write_text('{"alice:secret": [""]}')
            both.inside.path("users.json").chmod(0o600)
            await both.inside.run(both.typed(checked.text))


async def test_several_servers_for_one_client(meet: Meet) -> None:
    with section("Several servers for one client") as (client,):
        async with meet() as both:
            servers = [
                f"exec cotun-trio server --host {host} --keyfile host.key --auth-from login"
                for host in ("10.7.0.1", "10.20.0.1")
            ]
            both.own.path("/etc/hosts").write_text(
                both.own.path("/etc/hosts").read_text().replace("10.7.0.1 other", "10.20.0.1 other")
            )
            await both.own.run("ip address delete 10.20.0.0/16 dev lo")
            await both.own.run("ip route add 10.20.0.0/16 via 10.7.0.1")
            async with (
                both.server(servers[0]),
                both.server(servers[1]),
                both.client(client.text) as program,
            ):
                await program.wait_for(r"Connected \(Latency ", times=2)


@needs("curl")
@pytest.mark.interop
async def test_the_admin_interface(meet: Meet) -> None:
    with section("The admin interface") as (server, ask):
        async with meet() as both, both.server(server.text):
            client = "cotun-trio client --config cotun.toml --remote 127.0.0.1:8000:localhost:3000"
            async with both.client(client) as program:
                said = await both.inside.run(ask.text)
                assert "alice" in said
                await program.wait_for("moved")


@needs("promtool")
@pytest.mark.interop
async def test_prometheus_takes_the_scrape(meet: Meet) -> None:
    with section("Metrics") as (config,):
        async with meet() as both:
            both.own.path("prometheus.yml").write_text(config.text + "\n")
            await both.own.run(
                "mkdir -p /etc/cotun-trio && echo token >/etc/cotun-trio/admin-token && "
                "promtool check config prometheus.yml"
            )


@needs("redis-server", "openssl")
@pytest.mark.interop
async def test_a_node_of_a_fleet(meet: Meet) -> None:
    redis = "exec redis-server --bind 10.0.0.50 --save '' --protected-mode no --dir /tmp"
    with section("A fleet") as (server, status):
        async with meet() as both:
            await both.inside.run("ip address add 10.0.0.0/24 dev lo")
            async with (
                both.inside.running(redis, until="Ready to accept connections"),
                both.server(server.text),
            ):
                said = await both.inside.run(status.text)
                assert "redis://10.0.0.50:6379, answers" in said


async def test_upgrading_keeps_what_there_is(meet: Meet) -> None:
    with section("Upgrading from chisel or cotun") as (commands,):
        async with meet() as both:
            both.inside.path("users.json").write_text(
                '{"alice:secret": ["^10\\\\.0\\\\.0\\\\.7:22$"]}'
            )
            both.inside.path("users.json").chmod(0o600)
            async with both.server(commands.text) as server:
                assert server.find(f"Fingerprint {re.escape(both.fingerprint)}$")
