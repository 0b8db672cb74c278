"""README's chapter for when it does not work: the doctor's words and the messages are real ones."""

from __future__ import annotations

import ast
import ctypes
import errno
import functools
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scripts.peers import find
from tests.support.peers import needs
from tests.support.readme import looks_like, section, terms

if TYPE_CHECKING:
    from tests.readme.conftest import Meet

ROOT = Path(__file__).parents[2]


# ---- the doctor


def seen(shown: str) -> re.Pattern[str]:
    """Return a pattern for what the doctor prints: other times, and another certificate."""
    text = re.escape(" ".join(shown.split()))
    text = re.sub(r"\b\d+(\\\.\d+)?(ms|s)\\ ", r"\\S+\\ ", text)
    text = re.sub(r"cipher:\\ .*?;", "cipher: .*?;", text)
    return re.compile(re.sub(r"subject:.*?valid\\ until:.*?UTC", "subject:.*?UTC", text))


NGINX = """
daemon off; pid /run/nginx.pid; error_log stderr notice; events {}
http {
    access_log off; server_tokens off; default_type text/plain;
    server {
        listen 443 ssl; ssl_protocols TLSv1.3;
        ssl_certificate cert.pem; ssl_certificate_key key.pem;
        location / { return 404 'Not found'; }
    }
}
"""


@pytest.mark.slow
@pytest.mark.interop
@needs("nginx", "openssl")
async def test_the_doctor_says_what_the_readme_shows(meet: Meet) -> None:
    with section("When it does not work") as (ask, shown):
        async with meet() as both:
            await both.certify()
            # One of its two addresses is nowhere, and nobody says so.
            hosts = both.own.path("/etc/hosts")
            lines = [line for line in hosts.read_text().split("\n") if "inside.example" not in line]
            hosts.write_text("\n".join(lines))
            for address in ("2001:db8::7", "192.0.2.7"):
                both.own.knows(inside_example_com=address)
            await both.own.run(
                "ip address add 2001:db8::2/64 dev wire nodad; ip route add 192.0.2.7 dev wire; "
                "ip neighbour add 2001:db8::7 lladdr 02:00:00:00:00:07 dev wire"
            )
            both.inside.path("nginx.conf").write_text(NGINX)
            start = f"ip address add 192.0.2.7/32 dev lo; exec {find('nginx')} -c $PWD/nginx.conf"
            async with both.inside.running(start, until="start worker process"):
                said = await both.own.run(ask.text, status=1)
        assert seen(shown.text).fullmatch(" ".join(said.split())), said


# ---- the messages


def wording(node: ast.expr) -> str | None:
    """Return the text of an expression, with ``…`` for what is put into it; None without one."""
    match node:
        case ast.Constant(value=str(text)):
            text = text.replace("{peer}", "server")
            return re.sub(r"%[sdgr]|\{\w*\}|\d+", "…", text)
        case ast.JoinedStr(values=parts):
            return "".join(wording(part) or "…" for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return f"{wording(left) or '…'}{wording(right) or '…'}"
    return None


@functools.cache
def wordings() -> list[tuple[str, re.Pattern[str] | None]]:
    """Return all texts in the source, and patterns for those into which something is put."""
    found = set()
    for path in [*(ROOT / "cotun_trio").rglob("*.py"), ROOT / "scripts" / "single_file_main.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.expr) and (text := wording(node)):
                found.add(text)
    return [(text, pattern_of(text)) for text in found]


def pattern_of(text: str) -> re.Pattern[str] | None:
    """Return a pattern for a text into which something is put, if there is more to it than that."""
    if "…" not in text or len(text.replace("…", "")) < 8:
        return None
    return re.compile(re.escape(text).replace("…", "(.+)"))


@functools.cache
def systems_words() -> set[str]:
    """Return what the system says when something fails."""
    libc = ctypes.CDLL(None)
    libc.gai_strerror.restype = ctypes.c_char_p
    names = (socket.EAI_NONAME, socket.EAI_AGAIN)
    return {*map(os.strerror, errno.errorcode), *(libc.gai_strerror(n).decode() for n in names)}


def is_ours(message: str) -> bool:
    """Return whether the program, or the system, can say so; ``…`` stands for anything."""
    if len(message) < 12 or message in systems_words():
        return True
    for text, pattern in wordings():
        if message in text:
            return True
        if pattern and (found := pattern.fullmatch(message)) and all(map(is_ours, found.groups())):
            return True
    first, colon, rest = message.partition(": ")
    return bool(colon) and is_ours(first) and is_ours(rest)


MESSAGES = terms("Messages")


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_in_the_readme_is_one_of_ours(message: str) -> None:
    assert is_ours(re.sub(r"\d+", "…", message))


def test_there_are_many_messages_and_others_are_not_ours() -> None:
    assert len(MESSAGES) >= 40
    assert not is_ours("the server has gone fishing")
    assert not is_ours("the server's certificate is too beautiful")


@pytest.mark.slow
@needs("curl")
@pytest.mark.limit(150)  # it starts twelve programs, which take 5 s
async def test_messages_of_the_readme_are_met(meet: Meet) -> None:
    client = "cotun-trio client --max-retry-count 0"
    login = "--auth-from login --fingerprint QpUjJ1…="
    url = "http://inside.example.com:8080"
    other = "A" * 43 + "="
    cases = {
        f"{client} http://inside.example.com:1 1:2": "Connection refused",
        f"{client} http://nowhere.internal 1:2": "Temporary failure in name resolution",
        f"{client} https://inside.example.com:8080 1:2": (
            "the server does not speak TLS: write http:// in its URL"
        ),
        f"{client} --fingerprint {other} {url} 1:2": "Invalid fingerprint (…): --fingerprint is …",
        f"{client} {url} 1:2": "the server wants a user and a password",
        f"{client} --auth alice:wrong {url} 1:2": (
            "the server refused the user name or the password"
        ),
        f"{client} {login} {url} R:1:2": "Reverse port forwarding not enabled on server",
        f"{client} {login} {url} 1:localhost:1": "access to '…' denied",
        f"{client} {login} {url} 8000:3000": "cannot listen on …: Address already in use",
        "cotun-trio server --port 8081 --reverse": (
            "there are no users: everybody who can reach … may use …"
        ),
    }
    assert set(cases.values()) <= set(MESSAGES)
    async with meet() as both:
        users = '{"alice:secret": ["^localhost:3000$", "^R:"]}'
        both.inside.path("users.json").write_text(users)
        both.inside.path("users.json").chmod(0o600)
        server = "cotun-trio server --keyfile host.key --authfile users.json"
        remote = "8000:localhost:3000"
        async with (
            both.server(server) as program,
            both.client(f"cotun-trio client {login} {url} {remote}") as connected,
        ):
            for typed, message in cases.items():
                async with both.own.running(both.typed(typed), until=looks_like(message).pattern):
                    pass
            # No web server listens at the target.  curl's status says whether the reset has come
            # while it connected, sent or received, and that is chance.
            await both.own.run("! curl -s http://127.0.0.1:8000/")
            await connected.wait_for(looks_like("refused: …: Connection refused").pattern)
            failed = "Authentication failed from … for user '…'"
            await program.wait_for(looks_like(failed).pattern)
