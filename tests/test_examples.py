"""The examples of ``scripts/examples`` do what they say, each as a program of its own."""

from __future__ import annotations

import getpass
import shutil
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cotun_trio import Refused, open_client
from tests.support.programs import running
from tests.support.sshd import SSH_MISSING, running_sshd
from tests.support.targets import LOOPBACK, connect, echo, echoes, listening, receive_all
from tests.support.tunnel import running_server

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    import trio

    from tests.support.programs import Program

EXAMPLES = Path(__file__).parents[1] / "scripts" / "examples"


def example(name: str, *arguments: str) -> AbstractAsyncContextManager[Program]:
    """Run an example."""
    return running(sys.executable, str(EXAMPLES / name), *arguments)


@pytest.mark.slow
async def test_an_application_is_exposed_from_behind_nat() -> None:
    async with (
        running_server(reverse=True) as server,
        example("expose_http.py", f"http://{server.addresses[0]}") as program,
    ):
        url = (await program.wait_for(r"http://\S+:(\d+)"))[1]
        async with await connect(f"{LOOPBACK}:{url}") as stream:
            request = "GET /%s HTTP/1.1\r\nHost: x\r\nConnection: %s\r\n\r\n"
            await stream.send_all((request % ("a", "keep-alive")).encode())
            await stream.send_all((request % ("b", "close")).encode())
            answers = await receive_all(stream)
        assert answers.count(b"HTTP/1.1 200") == 2
        assert b"You asked for /a" in answers
        assert b"You asked for /b" in answers
        assert await program.stop(signal.SIGINT) == 0


async def redis(stream: trio.SocketStream) -> None:
    """Answer PING as Redis does."""
    assert await stream.receive_some() == b"PING\r\n"
    await stream.send_all(b"+PONG\r\n")
    await receive_all(stream)


@pytest.mark.slow
async def test_a_notebook_reaches_a_database() -> None:
    async with (
        listening(redis) as database,
        running_server() as server,
        example("notebook.py", f"http://{server.addresses[0]}", database) as program,
    ):
        assert await program.wait() == 0
        assert program.lines[0] == "+PONG"
        assert "total=1" in program.lines[1]


@pytest.mark.slow
async def test_a_server_asks_sqlite_who_may_have_what(tmp_path: Path) -> None:
    path = tmp_path / "rules.db"
    async with listening(echo) as target:
        with closing(sqlite3.connect(path)) as rules, rules:
            rules.execute("CREATE TABLE rules (user TEXT, pattern TEXT)")
            rules.execute("INSERT INTO rules VALUES ('alice', ?)", (target,))
        async with example("authorise_sqlite.py", str(path)) as program:
            found = await program.wait_for(r"http://\S+:(\d+) (\S+)")
            async with open_client(
                f"http://{LOOPBACK}:{found[1]}", auth=("alice", "secret"), fingerprint=found[2]
            ) as client:
                host, port = target.split(":")
                async with await client.open_tcp_stream(host, int(port)) as stream:
                    assert await echoes(stream)
                with pytest.raises(Refused, match="no rule by which alice may have db:5432"):
                    await client.open_tcp_stream("db", 5432)
                await program.wait_for(f"alice from {LOOPBACK} wanted db:5432")
                with pytest.raises(Refused, match="no rule"):
                    await client.listen_tcp(8080)


@pytest.mark.slow
@pytest.mark.interop
@pytest.mark.skipif(SSH_MISSING is not None, reason=str(SSH_MISSING))
async def test_an_ssh_session_goes_by_stdio(tmp_path: Path) -> None:
    assert shutil.which("sh")
    async with running_sshd(tmp_path) as (port, options), running_server() as server:
        command = [
            str(EXAMPLES / "ssh_session.sh"),
            f"http://{server.addresses[0]}",
            "-F/dev/null",
            *options,
            f"-p{port}",
            f"{getpass.getuser()}@127.0.0.1",
            "echo $((6 * 7))",
        ]
        ours = f"{sys.executable} -m cotun_trio"
        async with running(*command, env={"COTUN_TRIO": ours}) as program:
            assert await program.wait() == 0
            assert "42" in program.lines
