"""Rights of users at a server: checked for the config and for every channel."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from cotun_trio.client.client import Client
from cotun_trio.errors import ConfigRefused
from cotun_trio.protocol import socks5
from cotun_trio.ssh import messages
from tests.support.leaks import nothing_left
from tests.support.peer import MAX_PACKET, WINDOW, peer_of
from tests.support.targets import LOOPBACK, connect, echo, echoes, listening
from tests.support.tunnel import client_settings, running_client
from tests.support.users import ALICE, BOB, UsersFile, peer_as, server_with

if TYPE_CHECKING:
    from pathlib import Path

    import trio

    from tests.support.peer import Peer


@pytest.fixture
def file(tmp_path: Path) -> UsersFile:
    return UsersFile(tmp_path)


def exactly(*addresses: str) -> list[str]:
    """Return patterns that allow these addresses and no others."""
    return [f"^{address}$".replace(".", r"\.").replace("[", r"\[") for address in addresses]


class Witness:
    """Counts who gets to a target."""

    def __init__(self) -> None:
        self.visitors = 0

    async def handle(self, stream: trio.SocketStream) -> None:
        self.visitors += 1
        await echo(stream)


# ---- at config time


@pytest.mark.parametrize(
    ("remote", "denied"),
    [
        ("3000:example.com:80", "example.com:80"),
        ("3000:EXAMPLE.com.:80", "example.com:80"),
        ("53:1.1.1.1:53/udp", "1.1.1.1:53"),
        ("stdio:example.com:22", "example.com:22"),
        ("socks", "socks"),
        ("R:0:localhost:80", "R:0.0.0.0:0"),
        ("R:0:localhost:53/udp", "R:0.0.0.0:0"),
        ("R:socks", "R:127.0.0.1:1080"),
        ("3000:unix:/run/a.sock", "unix:/run/a.sock"),
    ],
)
async def test_a_remote_that_is_not_in_the_list_is_refused_with_its_address(
    file: UsersFile, remote: str, denied: str
) -> None:
    file.write(alice=exactly("127.0.0.1:1"), bob=[""])
    async with server_with(file, reverse=True, socks5=True, unix=True) as server:
        address = server.addresses[0]
        async with nothing_left(), peer_of(address, "keyed") as peer:
            await peer.log_in("alice", "secret")
            answer = await peer.send_config(f"{LOOPBACK}:3001:127.0.0.1:1", remote)
            assert answer == b"\x52" + f"access to '{denied}' denied".encode()
            assert await peer.gone()


async def test_our_client_says_so_and_does_not_try_again(file: UsersFile) -> None:
    file.write(alice=[])
    async with server_with(file) as server:
        client = Client(client_settings(server.addresses[0], "0:a:1", auth=ALICE))
        with pytest.raises(ConfigRefused, match="access to 'a:1' denied"):
            await client.run()


async def test_everybody_has_a_list_of_their_own(file: UsersFile) -> None:
    async with listening(echo) as one, listening(echo) as other:
        file.write(alice=exactly(one), bob=exactly(other))
        async with server_with(file) as server:
            for user, allowed, denied in ((ALICE, one, other), (BOB, other, one)):
                async with peer_as(user, server.addresses[0]) as peer:
                    await peer.open_channel(allowed)
                async with peer_as(user, server.addresses[0]) as peer:
                    assert await peer.refused_channel(denied) == messages.OPEN_PROHIBITED


# ---- for every channel

UNDECLARED = [
    "{0}",
    "{0}/udp",
    "{0}/UDP",
    "socks",
    "SOCKS",
    "LOCALHOST:{1}",
    "localhost.:{1}",
    "[::ffff:127.0.0.1]:{1}",
    "[::FFFF:7f00:1]:{1}",
    "[::1]:{1}",
    "0.0.0.0:{1}",
    "127.1:{1}",
    "0x7f000001:{1}",
    "2130706433:{1}",
    ":{1}",
    "0{0}",
    "{0} ",
    "{0}\0",
    "{0}\n127.0.0.1:1",
    "127.0.0.1:1\n{0}",
    "x@{0}",
    "127.0.0.1:1@{0}",
    "unix:/tmp/x.sock",
    "R:{0}",
    "R:{1}",
    "stdio",
    "",
    ":",
    "127.0.0.1:1,{0}",
    "{0}/tcp",
    "127.0.0.1:0{1}",
]


@pytest.mark.parametrize("target", UNDECLARED, ids=ascii)
async def test_no_channel_leads_where_the_list_does_not(file: UsersFile, target: str) -> None:
    witness = Witness()
    async with listening(witness.handle) as secret:
        port = secret.rpartition(":")[2]
        file.write(alice=exactly("127.0.0.1:1"), bob=[""])
        async with (
            server_with(file, reverse=True, socks5=True, unix=True) as server,
            nothing_left(),
            peer_as(ALICE, server.addresses[0], "9:127.0.0.1:1") as peer,
        ):
            assert await peer.refused_channel(target.format(secret, port)) == 1
        assert witness.visitors == 0


@pytest.mark.parametrize("target", ["127.0.0.1:{0}", "127.0.0.1:{0}/udp", "socks"])
@pytest.mark.parametrize("stage", ["keyed", "in"])
async def test_no_channel_leads_anywhere_before_the_remotes_are_accepted(
    file: UsersFile, target: str, stage: str
) -> None:
    witness = Witness()
    async with listening(witness.handle) as allowed:
        target = target.format(allowed.rpartition(":")[2])
        file.write(alice=[""])
        async with (
            server_with(file, socks5=True) as server,
            peer_of(server.addresses[0], "keyed") as peer,
        ):
            if stage == "in":
                await peer.log_in("alice", "secret")
                assert await peer.refused_channel(target) == messages.OPEN_PROHIBITED
            else:
                await peer.send(
                    messages.channel_open(b"chisel", 0, WINDOW, MAX_PACKET, target.encode())
                )
                assert await peer.gone()
        assert witness.visitors == 0


# ---- SOCKS


async def ask_socks(peer: Peer, target: str) -> int:
    """Ask the proxy behind channel 0 for a connection; return its reply code."""
    number = await peer.open_channel("socks")
    host, _, port = target.rpartition(":")
    request = socks5.greeting() + bytes((5, 1, 0, 3, len(host))) + host.encode()
    request += struct.pack(">H", int(port))
    about = messages.about_channel(messages.CHANNEL_DATA, number)
    await peer.send(about + messages.string(request))
    data = b""
    while len(data) < 4:  # the choice of a method has two bytes
        message = await peer.receive_type(messages.CHANNEL_DATA)
        data += message[9:]
    return data[3]


@pytest.mark.parametrize(
    ("patterns", "allowed"),
    [
        (["^socks$"], True),
        (["^socks$", "socks:^{0}$"], True),
        (["^socks$", "socks:^localhost:1$", "socks:^{0}$"], True),
        (["^socks$", "socks:^localhost:1$"], False),
        (["^socks$", "socks:^$", "^{0}$"], False),
    ],
)
async def test_a_socks_client_gets_where_the_list_says(
    file: UsersFile, patterns: list[str], allowed: bool
) -> None:
    witness = Witness()
    async with listening(witness.handle) as target:
        file.write(alice=[pattern.format(target) for pattern in patterns])
        async with (
            server_with(file, socks5=True) as server,
            peer_as(ALICE, server.addresses[0], "socks") as peer,
        ):
            code = await ask_socks(peer, target)
            assert code == (socks5.Reply.SUCCEEDED if allowed else socks5.Reply.NOT_ALLOWED)
        assert witness.visitors == allowed


@pytest.mark.parametrize("spelled", ["LOCALHOST:{0}", "localhost.:{0}", "::ffff:127.0.0.1:{0}"])
async def test_no_other_spelling_gets_a_socks_client_further(file: UsersFile, spelled: str) -> None:
    witness = Witness()
    async with listening(witness.handle) as target:
        target = spelled.format(target.rpartition(":")[2])
        file.write(alice=["^socks$", "socks:^[^l1]"])
        async with (
            server_with(file, socks5=True) as server,
            peer_as(ALICE, server.addresses[0], "socks") as peer,
        ):
            assert await ask_socks(peer, target) == socks5.Reply.NOT_ALLOWED
        assert witness.visitors == 0


@pytest.mark.parametrize(
    ("patterns", "server_socks", "allowed"),
    [
        (["^socks$"], True, True),
        (["^socks$", r"socks:^127\.0\.0\.1:7$"], True, True),
        (["^socks$", "socks:^other:7$"], True, False),
        (["^socks$"], False, False),
        ([r"^127\.0\.0\.1:7$"], False, True),
    ],
)
async def test_datagrams_of_a_socks_client_follow_the_same_rules(
    file: UsersFile, patterns: list[str], server_socks: bool, allowed: bool
) -> None:
    file.write(alice=patterns)
    async with (
        server_with(file, socks5=server_socks) as server,
        peer_as(ALICE, server.addresses[0]) as peer,
    ):
        if allowed:
            await peer.open_channel("127.0.0.1:7/udp")
        else:
            assert await peer.refused_channel("127.0.0.1:7/udp") == messages.OPEN_PROHIBITED


async def test_a_tunnel_of_a_user_with_a_list_carries_what_that_allows(file: UsersFile) -> None:
    async with listening(echo) as target:
        file.write(alice=[*exactly(target), "^R:"])
        async with (
            server_with(file, reverse=True) as server,
            running_client(
                server.addresses[0],
                f"{LOOPBACK}:0:{target}",
                f"R:{LOOPBACK}:0:{target}",
                auth=ALICE,
            ) as client,
        ):
            session = await client.opened()
            for address in (client.addresses[0], session.reverse_addresses[0]):
                async with await connect(address) as stream:
                    assert await echoes(stream)
