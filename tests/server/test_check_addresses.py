"""``--check-addresses``: a name may be allowed, and what it leads to not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.protocol.socks5 import Reply
from tests.support.ends import socks_request, udp_echo, udp_socket
from tests.support.log_watch import watch_logs
from tests.support.names import know
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
from tests.support.users import ALICE, UsersFile, server_with

if TYPE_CHECKING:
    from pathlib import Path

BY_NAME = r"^db:[0-9]+$"
BY_ADDRESS = r"^127\.0\.0\.1:[0-9]+$"


@pytest.fixture
def file(tmp_path: Path) -> UsersFile:
    return UsersFile(tmp_path)


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have the name ``db`` lead to an address where nothing listens, and to this machine."""
    return know(monkeypatch, db=["127.0.0.2", LOOPBACK], elsewhere=["127.0.0.2"])


async def test_a_name_that_leads_to_an_address_outside_the_list_is_not_dialled(
    file: UsersFile,
) -> None:
    file.write(alice=[BY_NAME])
    async with (
        listening(echo) as target,
        server_with(file, check_addresses=True) as server,
        running_client(
            server.addresses[0], f"{LOOPBACK}:0:db:{split_address(target)[1]}", auth=ALICE
        ) as client,
        watch_logs() as log,
    ):
        await client.opened()
        async with await connect(client.addresses[0]) as stream:
            with pytest.raises(trio.BrokenResourceError):
                await receive_all(stream)
        await log.wait_for("'db:[0-9]+' leads to 127.0.0.2:[0-9]+, which is not allowed", "server")
        await log.wait_for("refused: .*leads to no address that is allowed", "client")


@pytest.mark.parametrize("checked", [False, True])
async def test_of_the_addresses_of_a_name_those_in_the_list_are_dialled(
    file: UsersFile, checked: bool
) -> None:
    file.write(alice=[BY_NAME, BY_ADDRESS] if checked else [BY_NAME])
    async with (
        listening(echo) as target,
        server_with(file, check_addresses=checked) as server,
        running_client(
            server.addresses[0], f"{LOOPBACK}:0:db:{split_address(target)[1]}", auth=ALICE
        ) as client,
    ):
        await client.opened()
        async with await connect(client.addresses[0]) as stream:
            assert await echoes(stream)


@pytest.mark.parametrize(
    ("name", "answer"), [("db", Reply.SUCCEEDED), ("elsewhere", Reply.NOT_ALLOWED)]
)
async def test_addresses_are_checked_for_socks_by_its_own_patterns(
    file: UsersFile, name: str, answer: Reply
) -> None:
    file.write(alice=["^socks$", f"socks:{BY_NAME}", "socks:^elsewhere:", f"socks:{BY_ADDRESS}"])
    async with (
        listening(echo) as target,
        server_with(file, check_addresses=True, socks5=True) as server,
        running_client(server.addresses[0], f"{LOOPBACK}:0:socks", auth=ALICE) as client,
    ):
        await client.opened()
        async with await connect(client.addresses[0]) as stream:
            assert (await socks_request(stream, name, split_address(target)[1]))[0] == answer


async def test_datagrams_go_to_no_address_outside_the_list(file: UsersFile) -> None:
    file.write(alice=["^elsewhere:", BY_NAME, BY_ADDRESS])
    async with udp_echo() as target, server_with(file, check_addresses=True) as server:
        port = split_address(target)[1]
        remotes = [f"{LOOPBACK}:0:{name}:{port}/udp" for name in ("elsewhere", "db")]
        async with (
            running_client(server.addresses[0], *remotes, auth=ALICE) as client,
            udp_socket() as (sock, _),
            watch_logs() as log,
        ):
            await client.opened()
            await sock.sendto(b"lost", split_address(client.addresses[0]))
            await log.wait_for("'elsewhere:[0-9]+/udp' leads to 127.0.0.2:[0-9]+/udp, which is not")
            await sock.sendto(b"found", split_address(client.addresses[1]))
            assert await sock.recv(100) == b"found"


async def test_an_address_in_digits_is_looked_up_by_nobody(
    file: UsersFile, asked: list[str]
) -> None:
    file.write(alice=[BY_ADDRESS])
    async with (
        listening(echo) as target,
        server_with(file, check_addresses=True) as server,
        running_client(server.addresses[0], f"{LOOPBACK}:0:{target}", auth=ALICE) as client,
    ):
        await client.opened()
        async with await connect(client.addresses[0]) as stream:
            assert await echoes(stream)
    assert not asked
