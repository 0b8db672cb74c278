"""README's recipes, as typed, with the real programs that they are about."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from scripts.peers import find
from tests.support.peers import needs
from tests.support.readme import section

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.readme.conftest import Meet, TwoMachines
    from tests.support.machines import Machine

pytestmark = [pytest.mark.slow, pytest.mark.interop]

SERVES = "Serving HTTP on"


def web_server(at: str, port: int, page: str) -> str:
    """Return what starts a web server with a page, in a directory of its own."""
    return (
        f"mkdir -p web-{port} && cd web-{port} && echo '{page}' >index.html && "
        f"exec python3 -m http.server --bind {at} {port}"
    )


def test_the_server_of_all_recipes_has_a_test() -> None:
    with section("Recipes") as (server,):  # the fixture `recipe` runs it
        assert server.text.startswith("cotun-trio server ")


@contextlib.asynccontextmanager
async def ssh_of_alice(both: TwoMachines) -> AsyncIterator[None]:
    """Let the key of the own machine's user log in as alice at db.internal, which sshd serves."""
    await both.own.run("ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519")
    # As if they had been there before.
    both.own.path("/etc/ssh/ssh_config").write_text("StrictHostKeyChecking no\nBatchMode yes\n")
    await both.inside.run(
        "userdel -r alice 2>/dev/null || true; useradd -m -s /bin/bash alice; "
        "usermod -p '*' alice; ssh-keygen -A >/dev/null; "
        "install -d -o alice -m 700 ~alice/.ssh"
    )
    keys = both.inside.path("/home/alice/.ssh/authorized_keys")
    keys.write_text(both.own.path("/root/.ssh/id_ed25519.pub").read_text())
    options = "-o ListenAddress=10.20.0.5 -o 'Subsystem sftp internal-sftp'"
    sshd = f"exec {find('sshd')} -D -e -f /dev/null {options}"
    async with both.inside.running(sshd, until="Server listening on"):
        yield


@needs("ssh", "sshd", "ssh-keygen")
async def test_ssh_goes_through_it(recipe: Meet) -> None:
    session = "\n<<'END'\nwhoami && hostname\nEND"
    with section("ssh through it") as (by_command, for_good, client, by_port):
        async with recipe() as both, ssh_of_alice(both):
            for typed in (by_command.text, for_good.text):
                assert "alice\ninside" in await both.own.run(typed.rstrip() + session[1:])
            async with both.client(client.text):
                assert "alice\ninside" in await both.own.run(by_port.text + session[1:])
            # From anywhere, and for what copies files.
            await both.own.run("cd / && scp -q alice@db.internal:/etc/hostname /tmp/copied")


@needs("curl")
async def test_a_web_server_is_reached_behind_nat(recipe: Meet) -> None:
    with section("A web server from behind NAT") as (client, fetch):
        async with recipe() as both, both.client(client.text) as program:
            await program.wait_for(SERVES)
            assert (await both.inside.run(fetch.text)).endswith("hello from behind NAT")


@needs("curl", "git")
async def test_a_socks_proxy_reaches_what_the_server_reaches(recipe: Meet) -> None:
    repository = (
        "mkdir -p web-80 && git init -q app && cd app && git config user.name a && "
        "git config user.email a@b && git commit -q --allow-empty -m 'the first' && cd .. && "
        "git clone -q --bare app web-80/app.git && git -C web-80/app.git update-server-info"
    )
    with section("A SOCKS proxy") as (client, use, with_password, reverse):
        async with recipe() as both:
            await both.inside.run(repository)
            web = web_server("10.20.0.80", 80, "intranet")
            async with both.inside.running(web, until=SERVES):
                async with both.client(client.text):
                    assert "intranet" in await both.own.run(use.text)
                    assert "the first" in await both.own.run("git -C app log")
                async with both.client(with_password.text):
                    ask = "curl -sS --proxy socks5h://%s127.0.0.1:1081 http://intranet.internal/"
                    assert await both.own.run(ask % "visitor:hidden@") == "intranet"
                    await both.own.run(ask % "", status=97)
            own_web = web_server("10.7.0.2", 8001, "at home")
            async with both.own.running(own_web, until=SERVES), both.client(reverse.text):
                ask = "curl -sS --proxy socks5h://127.0.0.1:1080 http://10.7.0.2:8001/"
                assert await both.inside.run(ask) == "at home"


@contextlib.asynccontextmanager
async def postgres(machine: Machine) -> AsyncIterator[None]:
    """Run PostgreSQL at db.internal, with a database and a user that are called app."""
    await machine.run(
        "bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1); "
        "install -d -o postgres /home/you/db /run/postgresql; "
        'as() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }; cd /home/you; '
        "as $bin/initdb --no-sync -A trust -D db >/dev/null; "
        "echo 'host all all 10.20.0.0/16 trust' >>db/pg_hba.conf; "
        "echo 'create user app; create database app;' | "
        "as sed 's/;/;\\n/g' | as $bin/postgres --single -D db postgres >/dev/null"
    )
    start = (
        "cd /home/you; exec setpriv --reuid postgres --regid postgres --clear-groups "
        "$(ls -d /usr/lib/postgresql/*/bin | tail -1)/postgres -D db -h 10.20.0.5 -F"
    )
    async with machine.running(start, until="ready to accept connections"):
        yield


@needs("psql", "pg_createcluster")
async def test_a_database_is_reached(recipe: Meet) -> None:
    with section("A database") as (client, ask):
        async with recipe() as both, postgres(both.inside), both.client(client.text):
            assert "42" in (await both.own.run(ask.text)).split()


DOCKER = """
cat >/tmp/docker.py <<'END'
import http.server, os, socketserver
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"Version": "24.0", "Path": "%s"}' % self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def address_string(self):
        return "client"
with socketserver.UnixStreamServer("/run/docker.sock", Answer) as server:
    print("listening", flush=True)
    server.serve_forever()
END
exec python3 /tmp/docker.py
"""
"""A stand-in for Docker, which takes much to run: HTTP at its socket."""


@needs("curl")
async def test_the_socket_of_docker_is_reached(recipe: Meet) -> None:
    with section("Docker's socket") as (client, ask):
        async with (
            recipe() as both,
            both.inside.running(DOCKER, until="listening"),
            both.client(client.text),
        ):
            assert '"Path": "/version"' in await both.own.run(ask.text)


@needs("dig", "dnsmasq")
async def test_a_name_server_inside_is_asked(recipe: Meet) -> None:
    names = (
        f"exec {find('dnsmasq')} --keep-in-foreground --log-facility=- --conf-file=/dev/null "
        "--user=root --pid-file= --no-resolv --listen-address=10.20.0.53 --bind-interfaces"
    )
    with section("UDP") as (client, ask):
        async with (
            recipe() as both,
            both.inside.running(names, until="started, version"),
            both.client(client.text),
        ):
            assert await both.own.run(ask.text) == "10.20.0.5"
