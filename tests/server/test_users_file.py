"""The users file with processes: at start, read again by itself and on SIGHUP, transfers cut."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from cotun_trio.errors import UsageError
from cotun_trio.server.server import Server
from tests.support.programs import our_client, our_server, ours
from tests.support.targets import LOOPBACK, connect, echo, echoes, listening
from tests.support.tunnel import server_settings
from tests.support.users import UsersFile

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture
def file(tmp_path: Path) -> UsersFile:
    return UsersFile(tmp_path)


async def pour_for_ever(stream: trio.SocketStream) -> None:
    while True:
        await stream.send_all(bytes(65536))


async def test_a_user_who_is_removed_in_the_middle_of_a_transfer_is_cut(file: UsersFile) -> None:
    file.write(alice=[""], bob=[""])
    async with (
        listening(pour_for_ever) as pouring,
        listening(echo) as echoing,
        our_server("--authfile", str(file.path)) as (server, url),
        our_client(url, "--auth", "alice:secret", target=pouring) as (alice, at_alice),
        our_client(url, "--auth", "bob:hunter2", target=echoing) as (_, at_bob),
    ):
        async with await connect(at_alice) as transfer, await connect(at_bob) as other:
            for _ in range(100):
                assert await transfer.receive_some()
            assert await echoes(other)
            file.write(bob=[""])
            with trio.fail_after(10), pytest.raises(trio.BrokenResourceError):
                while await transfer.receive_some():
                    pass
            assert await echoes(other)
        await server.wait_for("closed after .*: the user 'alice' has been removed$")
        # It is told why, but in the middle of a transfer that can come too late.
        await alice.wait_for("Disconnected: ")
        assert await alice.wait() == 4
        assert alice.find("^cotun-trio: the server refused the user name or the password$")


async def test_sighup_reads_the_file_again_and_what_is_wrong_with_it_is_said(
    file: UsersFile,
) -> None:
    file.write(alice=[""])
    async with our_server("--authfile", str(file.path)) as (server, url):
        await server.wait_for(r"User authentication enabled \(1 users\)")
        file.write(alice=[""], bob=["bob"])
        server.send_signal(signal.SIGHUP)
        await server.wait_for("users.json read again$")
        await server.wait_for("pattern 1 of the user 'bob', 'bob', is not anchored")
        file.path.write_text('{"alice:secret": [""],\n oops}')
        server.send_signal(signal.SIGHUP)
        await server.wait_for("users.json: line 2, column 2: not JSON: .*: the users stay as they")
        async with listening(echo) as target:
            auth = ("--auth", "bob:hunter2")
            async with our_client(url, *auth, target=target) as (client, _):
                await client.wait_for("access to '127.0.0.1:[0-9]+' denied$")
                assert await client.wait() == 5
        assert await server.stop() == 0


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"alice": []}', '{"a:b": ["("]}', None])
async def test_a_server_does_not_start_with_a_file_that_it_cannot_use(
    file: UsersFile, content: str | None
) -> None:
    if content is not None:
        file.path.write_text(content)
    async with ours("server", "--port", "0", "--authfile", str(file.path)) as server:
        assert await server.wait() == 2
        assert server.find(r"^cotun-trio: .*users\.json")
        assert not server.find("Listening|Traceback")


async def test_a_server_that_cannot_watch_its_users_file_does_not_start(
    file: UsersFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles._rust_notify", None)
    file.write(alice=[""])
    with pytest.raises(UsageError, match="takes watchfiles"):
        await Server(server_settings(authfile=str(file.path))).run()


@pytest.mark.parametrize("command", ["server", "client"])
@pytest.mark.parametrize("auth", ["", "alice", "hunter2"])
async def test_credentials_without_a_colon_are_an_error_at_start(command: str, auth: str) -> None:
    rest = ("http://127.0.0.1:1", f"{LOOPBACK}:0:x:1") if command == "client" else ("--port", "0")
    async with ours(command, "--auth", auth, *rest) as program:
        assert await program.wait() == 2
        assert program.find("^cotun-trio: --auth .*: credentials are written user:password")
        assert not program.find("hunter2|Listening")


async def test_a_server_does_not_start_with_a_hash_that_it_does_not_know() -> None:
    async with ours("server", "--port", "0", "--auth", "alice:$6$salt$hunter2") as server:
        assert await server.wait() == 2
        assert server.find("^cotun-trio: the password looks like a hash, but not like")
        assert not server.find("hunter2|Traceback")
