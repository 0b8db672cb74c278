"""A server behind nginx and HAProxy, by the configurations in ``scripts``; and nginx behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.peers import needs
from tests.support.programs import (
    READY,
    WITH_CHISEL,
    chisel_client,
    our_client,
    our_server,
    running,
)
from tests.support.targets import (
    LOOPBACK,
    MiB,
    connect,
    echo,
    echoes,
    free_port,
    listening,
    random_bytes,
    receive_all,
)

pytestmark = [pytest.mark.slow, pytest.mark.interop]

SCRIPTS = Path(__file__).parents[2] / "scripts"
DATA = random_bytes(4 * MiB)
NGINX_MAIN = """
daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr; worker_processes 1;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_max_body_size 0;
    {site}
}}
"""


def nginx(site: str, directory: Path) -> list[str]:
    """Return a command that runs nginx in the foreground."""
    config = directory / "nginx.conf"
    config.write_text(NGINX_MAIN.format(directory=directory, site=site))
    return ["nginx", "-e", "stderr", "-c", str(config)]


def in_front(name: str, port: int, server: str, directory: Path) -> list[str]:
    """Return how to run a proxy in front of `server`, by the configuration in ``scripts``."""
    if name == "nginx":
        site = (SCRIPTS / "nginx.conf").read_text()
        site = site.replace("listen 80;", f"listen {LOOPBACK}:{port};")
        return nginx(site.replace("127.0.0.1:8080", server), directory)
    config = (SCRIPTS / "haproxy.cfg").read_text()
    config = config.replace("bind :80", f"bind {LOOPBACK}:{port}")
    path = directory / "haproxy.cfg"
    path.write_text(config.replace("127.0.0.1:8080", server))
    return ["haproxy", "-db", "-f", str(path)]


def installed(*names: str) -> list[object]:
    return [
        pytest.param(
            name,
            marks=needs(name),
        )
        for name in names
    ]


@pytest.mark.parametrize("name", installed("nginx", "haproxy"))
@pytest.mark.parametrize("theirs", [False, pytest.param(True, marks=WITH_CHISEL)])
async def test_a_tunnel_goes_through(name: str, theirs: bool, tmp_path: Path) -> None:
    run_client = chisel_client if theirs else our_client
    port = free_port()
    async with (
        listening(echo) as target,
        our_server("--path", "/tunnel", "--trusted-proxy", LOOPBACK) as (server, url),
        running(*in_front(name, port, url.removeprefix("http://"), tmp_path)),
        run_client(
            f"http://{LOOPBACK}:{port}/tunnel",
            "--header",
            "X-Forwarded-For: 192.0.2.7",
            "--max-retry-interval",
            "100ms",
            target=target,
        ) as (client, local),
    ):
        await client.wait_for(READY[run_client])
        async with await connect(local) as stream:
            for _ in range(4):
                assert await echoes(stream, DATA[:MiB])
        # The proxy is trusted, and so is who speaks to it, by the same address.
        await server.wait_for("client=192.0.2.7 session=.*: open, client ")


async def fetch(address: str, path: str) -> bytes:
    async with await connect(address) as stream:
        await stream.send_all(
            f"GET {path} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n".encode()
        )
        return await receive_all(stream)


@pytest.mark.parametrize("name", installed("nginx"))
@needs("curl")
async def test_files_go_through_a_server_to_nginx_and_back(name: str, tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "file").write_bytes(DATA)
    tmp_path.chmod(0o755)
    port = free_port()
    async with (
        running(*nginx(f"server {{ listen {LOOPBACK}:{port}; root {tmp_path}/www; }}", tmp_path)),
        our_server("--backend", f"http://{LOOPBACK}:{port}") as (_, url),
    ):
        async with running(
            *("curl", "-sS", "--retry", "20", "--retry-delay", "0", "--retry-max-time", "10"),
            *("--fail", "-o", str(tmp_path / "got"), "-w", "%{http_code}\\n", f"{url}/file"),
        ) as curl:
            assert await curl.wait() == 0, curl.lines
        assert (tmp_path / "got").read_bytes() == DATA
        assert (await fetch(url.removeprefix("http://"), "/none")).startswith(b"HTTP/1.1 404 ")
