"""What the doctor says of programs that nobody here wrote: nginx, squid and the Go original."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import Authority
from tests.support.peers import needs
from tests.support.programs import WITH_CHISEL, chisel_server, our_server, ours, running
from tests.support.targets import LOOPBACK, free_port, refused_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.programs import Program

pytestmark = [pytest.mark.slow, pytest.mark.interop]

NGINX = """
daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr notice;
worker_processes 1;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{ listen {listen}; {site} }}
}}
"""
SQUID = """
http_port {address}
cache deny all
pid_filename none
access_log none
cache_log stdio:/dev/stderr
shutdown_lifetime 0 seconds
pinger_enable off
coredump_dir {directory}
{access}
"""
SQUID_READY = "Accepting HTTP Socket connections"
HELPERS = Path("/usr/lib/squid")
"""Where Debian has the programs that check logins."""
PASSWORDS = "alice:$apr1$cotuntri$MrG/x3tWA51qVPRtURZAk1\n"
"""The hash of ``secret``, for Basic."""
PLAIN_PASSWORDS = "alice:secret\n"
"""The same for Digest."""
BASIC = "auth_param basic program {helpers}/basic_ncsa_auth {hashed}\n"
DIGEST = (
    "auth_param digest program {helpers}/digest_file_auth {plain}\nauth_param digest realm proxy\n"
)
NTLM = "auth_param ntlm program {helpers}/ntlm_fake_auth\n"
USERS = "acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\n"


def nginx(site: str, directory: Path, tls: tuple[str, str] | None = None) -> tuple[list[str], str]:
    """Return how to run nginx with a site, and the site's address."""
    address = f"{LOOPBACK}:{free_port()}"
    listen = address
    if tls is not None:
        listen += " ssl"
        site += f" ssl_certificate {tls[0]}; ssl_certificate_key {tls[1]};"
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(directory=directory, listen=listen, site=site))
    return ["nginx", "-e", "stderr", "-c", str(config)], address


def squid(access: str, directory: Path) -> tuple[list[str], str]:
    """Return how to run squid, and its address."""
    address = f"{LOOPBACK}:{free_port()}"
    config = directory / "squid.conf"
    config.write_text(SQUID.format(address=address, directory=directory, access=access))
    return ["squid", "-N", "-f", str(config)], address


async def doctor(*arguments: str) -> tuple[int, str]:
    """Run the command without a pause; return its status, and its words on one line."""
    async with ours("doctor", "--idle", "0s", *arguments, env={"COLUMNS": "100"}) as program:
        status = await program.wait()
        return status, " ".join(" ".join(program.lines).split())


async def ready(program: Program) -> None:
    """Wait for nginx."""
    await program.wait_for("start worker process|using the")


@needs("nginx")
@pytest.mark.parametrize(
    ("site", "meaning"),
    [
        (
            "root {directory}/www;",
            "status: 200; server: nginx/.* page: Welcome here .*it is a web page, perhaps one to",
        ),
        (
            "return 404;",
            "page: 404 Not Found .*a web server answers, and has no tunnel at this path",
        ),
        ('auth_basic "x"; auth_basic_user_file /dev/null;', "wants a login by HTTP .Basic."),
        ("return 302 https://login.example/;", "it points to https://login.example/"),
        (
            "location / {{ proxy_pass http://{nobody}; }}",
            "a proxy on the way does not reach the server behind it",
        ),
        (
            "location / {{ proxy_pass {ours}; }}",
            "a tunnel server may have answered, and saw no request .*Upgrade and Connection",
        ),
    ],
    ids=["a page", "404", "a login", "a redirect", "back end down", "no Upgrade"],
)
async def test_nginx_that_gives_no_tunnel(site: str, meaning: str, tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "index.html").write_text("<title>Welcome here</title>")
    tmp_path.chmod(0o755)
    async with our_server() as (_, url):
        site = site.format(directory=tmp_path, nobody=refused_address(), ours=url)
        command, address = nginx(site, tmp_path)
        async with running(*command) as program:
            await ready(program)
            status, said = await doctor(f"http://{address}")
    assert status == 1
    assert "failed upgrade" in said
    assert re.search(meaning, said), said


@needs("nginx")
async def test_nginx_that_opens_tls_is_named_by_its_issuer(tmp_path: Path) -> None:
    interceptor = Authority(tmp_path / "ca", organization="Inner Security Office")
    cert, key = interceptor.issue(LOOPBACK)
    trusted = Authority(tmp_path / "other")
    command, address = nginx("return 404;", tmp_path, (cert, key))
    async with running(*command) as program:
        await ready(program)
        status, said = await doctor(f"https://{address}", "--tls-ca", trusted.path)
    assert status == 1
    assert "failed tls" in said
    assert "O=Inner Security Office" in said
    assert "a proxy on the way that opens TLS" in said


@needs("squid")
@pytest.mark.parametrize(
    ("access", "login", "status", "meaning"),
    [
        ("http_access allow all", "", 0, "A client gets through"),
        ("http_access deny all", "", 1, "does not allow connections to this host or port"),
        (
            "acl SSL_ports port 443\nhttp_access deny CONNECT !SSL_ports\nhttp_access allow all",
            "",
            1,
            "most allow CONNECT to port 443 only",
        ),
        (BASIC + USERS, "", 1, r"wants a user and a password \(HTTP 407\), by Basic"),
        (BASIC + USERS, "alice:wrong@", 1, r"not take the password \(HTTP 407\), by Basic"),
        (BASIC + USERS, "alice:secret@", 0, "A client gets through"),
        (DIGEST + USERS, "", 1, r"wants a user and a password \(HTTP 407\), by Digest"),
        (DIGEST + BASIC + USERS, "alice:wrong@", 1, r"take the password \(HTTP 407\), by Digest"),
        (DIGEST + USERS, "alice:secret@", 0, "A client gets through"),
        (NTLM + USERS, "alice:secret@", 1, r"a login by NTLM \(HTTP 407\).*such as cntlm or px"),
        (NTLM + DIGEST + USERS, "alice:secret@", 0, "A client gets through"),
    ],
    ids=[
        *("open", "closed", "another port", "no login", "a wrong login", "a login", "no digest"),
        *("a wrong digest and not basic", "a digest", "only ntlm", "ntlm or a digest"),
    ],
)
async def test_squid(access: str, login: str, status: int, meaning: str, tmp_path: Path) -> None:
    for helper in re.findall("{helpers}/([a-z_]+)", access):
        if not (HELPERS / helper).exists():
            pytest.skip(f"squid has no {helper}")
    with open_file(PASSWORDS) as hashed, open_file(PLAIN_PASSWORDS) as plain:
        access = access.format(helpers=HELPERS, hashed=hashed, plain=plain)
        command, address = squid(access, tmp_path)
        async with our_server() as (_, url), running(*command) as program:
            await program.wait_for(SQUID_READY)
            found, said = await doctor(url, "--proxy", f"http://{login}{address}")
    assert found == status
    assert re.search(meaning, said), said
    assert ("failed proxy" in said) == bool(status)
    assert "alice:" not in said


@contextlib.contextmanager
def open_file(text: str) -> Iterator[str]:
    """Give the path of a file with this text that every user can read: squid's cannot tmp_path."""
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(text)
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        yield file.name


@pytest.mark.parametrize("mark", [pytest.param("", marks=WITH_CHISEL)])
async def test_a_chisel_server(mark: str) -> None:
    async with chisel_server("--auth", "alice:secret") as (_, url):
        status, said = await doctor(url, "--auth", "alice:secret")
        refused, complaint = await doctor(url, "--auth", "alice:wrong")
    assert status == 0
    assert "program: chisel" in said
    assert "sent: 3.15MB" in said
    assert refused == 4
    assert "failed login" in complaint
