"""A change of the users file: what it forbids is cut, and everything else goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from cotun_trio.errors import AuthenticationFailed
from cotun_trio.ssh import messages
from tests.support.ends import socks_request
from tests.support.log_watch import watch_logs
from tests.support.peer import Gone, peer_of
from tests.support.targets import (
    LOOPBACK,
    connect,
    echo,
    echoes,
    listening,
    receive_all,
    split_address,
)
from tests.support.tunnel import running_client
from tests.support.users import ALICE, BOB, UsersFile, peer_as, server_with

if TYPE_CHECKING:
    from pathlib import Path

    from cotun_trio.server.server import Server


@pytest.fixture
def file(tmp_path: Path) -> UsersFile:
    return UsersFile(tmp_path)


async def is_cut(stream: trio.SocketStream) -> bool:
    """Return whether the connection breaks off, which it has to."""
    with pytest.raises(trio.BrokenResourceError):
        await receive_all(stream)
    return True


async def socks_connect(proxy: str, target: str) -> trio.SocketStream:
    """Return a connection through a SOCKS proxy."""
    stream = await connect(proxy)
    assert (await socks_request(stream, *split_address(target)))[0] == 0
    return stream


async def reloaded(server: Server) -> None:
    """Have the server read its users file, as a SIGHUP does; wait until it has."""
    async with watch_logs() as log:
        server.reload()
        await log.wait_for("read again|stay as they were", "server")


@pytest.mark.parametrize("what", ["removed", "new password"])
async def test_who_is_no_user_any_more_is_told_so_and_cut_and_nobody_else(
    file: UsersFile, what: str
) -> None:
    file.write(alice=[""], bob=[""])
    async with listening(echo) as target, server_with(file) as server:
        address = server.addresses[0]
        async with (
            running_client(address, f"{LOOPBACK}:0:{target}", auth=BOB) as bob,
            peer_as(ALICE, address) as alice,
        ):
            await bob.opened()
            async with await connect(bob.addresses[0]) as stream:
                assert await echoes(stream)
                if what == "removed":
                    file.write(bob=[""])
                else:
                    file.path.write_text(file.path.read_text().replace("secret", "other"))
                await reloaded(server)
                with pytest.raises(Gone) as caught:
                    await alice.receive()
                assert "the user 'alice' has " in str(caught.value.__cause__)
                assert what in str(caught.value.__cause__)
                assert await echoes(stream)
            assert len(bob.sessions) == 1
            with pytest.raises(AuthenticationFailed):
                async with peer_as(ALICE, address):
                    pass


async def test_who_is_logging_in_meanwhile_is_judged_by_the_new_file(file: UsersFile) -> None:
    file.write(alice=[""], bob=[""])
    async with server_with(file) as server, peer_of(server.addresses[0], "keyed") as alice:
        await alice.log_in("alice", "secret")  # and no config request yet
        file.write(bob=[""])
        await reloaded(server)
        with pytest.raises(Gone):
            await alice.send_config()


async def test_a_narrowed_list_cuts_what_it_no_longer_allows_and_nothing_else(
    file: UsersFile,
) -> None:
    async with listening(echo) as one, listening(echo) as other:
        file.write(alice=[f"^{one}$", f"^{other}$", "^R:"])
        remotes = [f"{LOOPBACK}:0:{one}", f"{LOOPBACK}:0:{other}"]
        async with (
            server_with(file) as server,
            running_client(server.addresses[0], *remotes, auth=ALICE) as client,
        ):
            await client.opened()
            async with (
                await connect(client.addresses[0]) as kept,
                await connect(client.addresses[1]) as cut,
            ):
                assert await echoes(kept)
                assert await echoes(cut)
                file.write(alice=[f"^{one}$"])
                await reloaded(server)
                assert await is_cut(cut)
                assert await echoes(kept)
            assert len(client.sessions) == 1


async def test_a_narrowed_list_frees_reverse_ports_and_cuts_what_came_by_them(
    file: UsersFile,
) -> None:
    file.write(alice=[""])
    async with listening(echo) as target, server_with(file, reverse=True) as server:
        remotes = [f"R:127.0.0.1:0:{target}", f"R:127.0.0.2:0:{target}"]
        async with running_client(server.addresses[0], *remotes, auth=ALICE) as client:
            kept_at, cut_at = (await client.opened()).reverse_addresses
            async with await connect(kept_at) as kept, await connect(cut_at) as cut:
                assert await echoes(kept)
                assert await echoes(cut)
                file.write(alice=[r"^R:127\.0\.0\.1:0$"])
                await reloaded(server)
                assert await is_cut(cut)
                assert await echoes(kept)
                with pytest.raises(OSError):
                    await connect(cut_at)
                async with await connect(kept_at) as another:
                    assert await echoes(another)


async def test_a_narrowed_list_cuts_connections_of_socks_clients_by_their_targets(
    file: UsersFile,
) -> None:
    async with listening(echo) as one, listening(echo) as other:
        file.write(alice=["^socks$"])
        async with (
            server_with(file, socks5=True) as server,
            running_client(server.addresses[0], f"{LOOPBACK}:0:socks", auth=ALICE) as client,
        ):
            await client.opened()
            kept = await socks_connect(client.addresses[0], one)
            cut = await socks_connect(client.addresses[0], other)
            async with kept, cut:
                assert await echoes(kept)
                assert await echoes(cut)
                file.write(alice=["^socks$", f"socks:^{one}$"])
                await reloaded(server)
                assert await is_cut(cut)
                assert await echoes(kept)


async def test_a_narrowed_list_cuts_datagrams(file: UsersFile) -> None:
    file.write(alice=["^127"])
    async with server_with(file) as server, peer_as(ALICE, server.addresses[0]) as peer:
        await peer.open_channel("127.0.0.1:7/udp")
        file.write(alice=[])
        await reloaded(server)
        assert await peer.receive_type(messages.CHANNEL_CLOSE)


async def test_what_a_wider_list_allows_can_be_had_without_a_new_login(file: UsersFile) -> None:
    async with listening(echo) as target:
        file.write(alice=[])
        async with server_with(file) as server, peer_as(ALICE, server.addresses[0]) as peer:
            assert await peer.refused_channel(target) == messages.OPEN_PROHIBITED
            file.write(alice=[f"^{target}$"])
            await reloaded(server)
            await peer.open_channel(target)


@pytest.mark.parametrize("content", ["", "{}", '{"alice:secret": [""]', '{"alice": [""]}', None])
async def test_a_file_that_makes_no_sense_changes_nothing_and_the_log_says_why(
    file: UsersFile, content: str | None
) -> None:
    file.write(alice=[""])
    async with server_with(file) as server, watch_logs() as log:
        async with peer_as(ALICE, server.addresses[0]) as peer:
            if content is None:
                file.path.unlink()
            else:
                file.path.write_text(content)
            why = "users.json: (line 1, column [0-9]+: .*|No such file.*): the users stay as"
            await reloaded(server)
            await log.wait_for(why, "server")
            assert await peer.send_config() != b"\x51"  # alice is still in, and has one already
        async with peer_as(ALICE, server.addresses[0]):
            pass
        with pytest.raises(AuthenticationFailed):
            async with peer_as(BOB, server.addresses[0]):
                pass


async def test_the_user_of_the_option_stays_whatever_is_in_the_file(file: UsersFile) -> None:
    file.write(alice=[], bob=[""])
    async with server_with(file, auth=ALICE) as server:
        async with peer_as(ALICE, server.addresses[0]) as peer:
            file.path.write_text('{"alice:other": []}')
            await reloaded(server)
            assert await peer.refused_channel("127.0.0.1:0") == messages.OPEN_PROHIBITED
            await peer.open_channel("127.0.0.1:7/udp")  # everything is allowed, still
        async with peer_as(ALICE, server.addresses[0]):
            pass
