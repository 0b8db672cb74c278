"""What a server tells a client at the end of its session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from cotun_trio.ssh import messages
from tests.support.log_watch import watch_logs
from tests.support.peer import Gone, peer_of
from tests.support.targets import LOOPBACK
from tests.support.tunnel import running_client, switchable_server
from tests.support.users import ALICE, BOB, UsersFile, peer_as, server_with

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.peer import Peer


async def words_for(peer: Peer) -> str:
    """Return the last words that a peer gets."""
    with pytest.raises(Gone) as caught, trio.fail_after(5):
        while True:
            await peer.receive()
    return str(caught.value.__cause__)


async def test_the_reason_for_a_go_client_ends_in_the_only_way_that_its_udp_remotes_survive() -> (
    None
):
    async with switchable_server() as server, peer_of(server.address, "open") as peer:
        await server.stop()
        assert await words_for(peer) == "the peer disconnected: closing: EOF (11)"


async def test_so_does_that_of_a_user_who_has_been_removed(tmp_path: Path) -> None:
    file = UsersFile(tmp_path)
    file.write(ALICE)
    async with server_with(file) as server, peer_as(ALICE, server.addresses[0]) as peer:
        file.write(BOB)
        server.reload()
        said = await words_for(peer)
        assert said == "the peer disconnected: the user 'alice' has been removed: EOF (11)"


async def test_so_does_that_of_a_broken_rule() -> None:
    async with switchable_server() as server, peer_of(server.address, "open") as peer:
        await peer.send(bytes((messages.CHANNEL_DATA,)) + bytes(8))
        assert (await words_for(peer)).endswith(": EOF (2)")


async def test_before_its_remotes_are_accepted_it_is_told_the_reason_alone() -> None:
    async with switchable_server() as server, peer_of(server.address, "in") as peer:
        await server.stop()
        assert await words_for(peer) == "the peer disconnected: closing (11)"


async def test_a_client_of_ours_is_told_the_reason_alone() -> None:
    async with (
        watch_logs() as log,
        switchable_server() as server,
        running_client(server.address, f"{LOOPBACK}:0:{LOOPBACK}:1") as client,
    ):
        await client.opened()
        await server.stop()
        await log.wait_for(r"Disconnected: the peer disconnected: closing \(11\)$", "client")
