"""The limit on the sessions of a user, as clients see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.access.credentials import Credentials
from cotun_trio.errors import AuthenticationFailed
from cotun_trio.net import descriptors
from cotun_trio.server.server import Server
from cotun_trio.server.shared import SharedState
from tests.support.log_watch import watch_logs
from tests.support.peer import Gone, peer_of
from tests.support.targets import background
from tests.support.tunnel import running_client, running_server, server_settings
from tests.support.users import ALICE, BOB, UsersFile, peer_as, server_with

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = "too many sessions of the user 'alice'"


async def refusal(address: str) -> str:
    """Log in as alice, and return what the DISCONNECT says that has to come."""
    async with peer_of(address, "keyed") as peer:
        with pytest.raises(Gone) as caught:
            await peer.log_in("alice", "secret")
        assert not peer.engine.authenticated
        return str(caught.value.__cause__)


async def test_one_more_is_told_that_there_are_too_many_and_others_are_not(
    tmp_path: Path,
) -> None:
    file = UsersFile(tmp_path)
    file.write(alice=[""], bob=[""])
    async with server_with(file, max_user_sessions=2) as server:
        address = server.addresses[0]
        async with peer_as(ALICE, address), peer_as(ALICE, address):
            assert await refusal(address) == f"the peer disconnected: {LIMIT} (12)"
            async with peer_as(BOB, address):
                pass
            with pytest.raises(AuthenticationFailed):
                async with peer_as(Credentials("alice", "wrong"), address):
                    pass


async def test_our_client_tries_again_until_there_is_room(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with (
        running_server(auth=ALICE, max_user_sessions=1) as server,
        watch_logs() as log,
        background() as nursery,
    ):
        address = server.addresses[0]
        first = trio.CancelScope()

        async def have_the_only_place() -> None:
            with first:
                async with peer_as(ALICE, address) as peer:
                    await peer.gone()

        nursery.start_soon(have_the_only_place)
        await log.wait_for("open, client", "server")
        async with running_client(address, auth=ALICE) as client:
            await log.wait_for(LIMIT + r" \(12\)", "client", times=2)
            await log.wait_for(f"closed before it was open: {LIMIT}", "server", times=2)
            assert not log.find("Authentication failed")
            first.cancel()
            await client.opened()


@pytest.mark.parametrize("how", ["its client goes", "a wrong config", "no config", "it is cut"])
async def test_every_end_of_a_session_gives_its_place_back(
    how: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    settings = server_settings(auth=ALICE, max_user_sessions=1)
    shared = SharedState.alone(settings)
    server = Server(settings, shared=shared)
    async with background() as nursery, watch_logs() as log:
        scope = trio.CancelScope()

        async def serve(*, task_status: trio.TaskStatus[None]) -> None:
            with scope:
                await server.run(task_status=task_status)

        await nursery.start(serve)
        async with peer_of(server.addresses[0], "keyed") as peer:
            await peer.log_in("alice", "secret")
            assert shared.user_sessions.of("user alice") == 1
            if how == "a wrong config":
                await peer.send_config(payload=b"{")
            elif how == "no config":
                await peer.gone()
            elif how == "it is cut":
                scope.cancel()
                await peer.gone()
        if how != "it is cut":
            await log.wait_for("closed before it was open", "server")
            async with peer_as(ALICE, server.addresses[0]):
                assert shared.user_sessions.of("user alice") == 1
            await log.wait_for("closed after", "server")
        await trio.testing.wait_all_tasks_blocked()
        assert shared.user_sessions.of("user alice") == 0


async def test_without_users_there_is_no_limit() -> None:
    async with running_server(max_user_sessions=1) as server:
        address = server.addresses[0]
        async with peer_as(ALICE, address), peer_as(ALICE, address):
            assert len(server.sessions) == 2


async def test_zero_is_no_limit_on_sessions() -> None:
    async with running_server(auth=ALICE, max_user_sessions=0) as server:
        address = server.addresses[0]
        async with peer_as(ALICE, address), peer_as(ALICE, address):
            assert len(server.sessions) == 2


async def test_the_last_descriptors_are_for_one_session_of_each_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = UsersFile(tmp_path)
    file.write(alice=[""], bob=[""])
    async with server_with(file) as server:
        address = server.addresses[0]
        async with peer_as(ALICE, address), peer_as(ALICE, address):
            monkeypatch.setattr(descriptors, "soft_limit", lambda: 4)  # all are in the reserve
            assert await refusal(address) == f"the peer disconnected: {LIMIT} (12)"
            async with peer_as(BOB, address):
                pass


async def test_without_users_the_last_descriptors_are_for_one_session_of_each_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running_server(max_user_sessions=1) as server:
        address = server.addresses[0]
        async with peer_of(address, "in"), peer_of(address, "in"):
            monkeypatch.setattr(descriptors, "soft_limit", lambda: 4)
            said = await refusal(address)
            assert said == "the peer disconnected: too many sessions of the source '127.0.0.1' (12)"
