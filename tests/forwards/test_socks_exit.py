"""The exit of a proxy through a tunnel: a SOCKS 5 server in a channel."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from cotun_trio.ssh import messages
from tests.support.ends import socks_address
from tests.support.peer import peer_of
from tests.support.ssh import channel_data
from tests.support.targets import LOOPBACK
from tests.support.tunnel import tunnel


async def test_a_server_without_socks_refuses_a_channel_to_it() -> None:
    async with (
        tunnel(server={"socks5": False}) as both,
        peer_of(both.server.addresses[0], "open") as peer,
    ):
        assert await peer.refused_channel("socks") == messages.OPEN_PROHIBITED


@pytest.mark.parametrize("command", [2, 3])
async def test_the_exit_itself_takes_nothing_but_connect(command: int) -> None:
    async with (
        tunnel(server={"socks5": True}) as both,
        peer_of(both.server.addresses[0], "open") as peer,
    ):
        number = await peer.open_channel("socks")
        request = bytes((5, command, 0)) + socks_address(LOOPBACK, 80)
        await peer.send(channel_data(number, b"\x05\x01\x00" + request))
        said = b""
        while len(said) < 4:
            said += (await peer.receive_type(messages.CHANNEL_DATA))[9:]
        assert said[:4] == b"\x05\x00\x05\x07"


async def test_an_entry_that_stalls_at_the_exit_is_cut_after_10_seconds(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with (
        tunnel(server={"socks5": True}) as both,
        peer_of(both.server.addresses[0], "open") as peer,
    ):
        started = trio.current_time()
        await peer.open_channel("socks")
        await peer.receive_type(messages.CHANNEL_CLOSE)
        assert 9 < trio.current_time() - started < 12
