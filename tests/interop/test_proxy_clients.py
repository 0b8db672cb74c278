"""Programs that nobody here wrote as clients of the proxy: git over CONNECT, with a password."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import ssl
import threading
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.certificates import Authority
from tests.support.peers import needs
from tests.support.targets import LOOPBACK
from tests.support.tunnel import tunnel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.interop]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  as there
        """Say nothing."""


@contextlib.contextmanager
def files_by_https(directory: Path, ca: Authority) -> Iterator[int]:
    """Serve the files of `directory`; give the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*ca.issue("localhost"))
    handler = functools.partial(Quiet, directory=str(directory))
    with http.server.ThreadingHTTPServer((LOOPBACK, 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@needs("git")
@pytest.mark.parametrize("scheme", ["http", "socks4a", "socks5h"])
@pytest.mark.parametrize("reverse", [False, True], ids=["out", "reverse"])
async def test_git_clones_by_https_through_it(scheme: str, reverse: bool, tmp_path: Path) -> None:
    ca = Authority(tmp_path / "ca")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_SSL_CAINFO": str(ca.path),
        **{f"GIT_{role}_NAME": "x" for role in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{role}_EMAIL": "x@example.com" for role in ("AUTHOR", "COMMITTER")},
    }

    async def git(*words: str) -> bytes:
        command = ["git", *words]
        done = await trio.run_process(
            command, cwd=tmp_path, env=environment, capture_stdout=True, capture_stderr=True
        )
        return done.stdout

    await git("init", "--quiet", "origin")
    await git("-C", "origin", "commit", "--quiet", "--allow-empty", "--message", "by a proxy")
    await git("-C", "origin", "update-server-info")
    login = "" if scheme == "socks4a" else "me:s3cret@"
    with files_by_https(tmp_path, ca) as port:
        async with tunnel(
            remotes=(f"{'R:' * reverse}{login}{LOOPBACK}:0:socks",),
            server={"reverse": True, "socks5": True},
        ) as both:
            listen = (
                both.client.sessions[0].reverse_addresses if reverse else both.client.addresses
            )[0]
            proxy = ("-c", f"http.proxy={scheme}://{login}{listen}")
            url = f"https://localhost:{port}/origin/.git"
            await git(*proxy, "clone", "--quiet", url, "copy")
            assert await git("-C", "copy", "log", "--format=%s") == b"by a proxy\n"
