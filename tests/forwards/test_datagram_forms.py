"""Gob, or runs of datagrams: which form a UDP channel has is agreed in each session."""

from __future__ import annotations

import functools
import re
import json
from typing import TYPE_CHECKING

import pytest
import trio

from cotun_trio.access.host_keys import generate_host_key
from cotun_trio.protocol.config import Config
from cotun_trio.protocol.datagram_runs import RunDecoder, RunEncoder
from cotun_trio.protocol.extensions import DATAGRAM_RUNS, OURS
from cotun_trio.protocol.gob import Decoder
from cotun_trio.protocol.gob_encoder import Encoder
from cotun_trio.ssh import messages
from tests.support.bystander import bystander
from tests.support.datagrams import Datagram, datagrams_in
from tests.support.ends import (
    ask,
    socks_address,
    socks_request,
    udp_echo,
    udp_socket,
)
from tests.support.log_watch import watch_logs
from tests.support.peer import MAX_PACKET, WINDOW, peer_of, scripted_server
from tests.support.ssh import channel_data
from tests.support.targets import connect, split_address
from tests.support.tunnel import running_client, running_server, tunnel

if TYPE_CHECKING:
    from cotun_trio.protocol.datagram_codec import DatagramDecoder, DatagramEncoder
    from tests.support.peer import Peer

host_key = functools.cache(generate_host_key)
IDENTITY = "ab" * 16
SAYS_YES = b'{"Addresses":[],"Extensions":["datagram-runs"]}'
SAYS_NOTHING = b'{"Addresses":[]}'
GOB, RUNS = (Encoder, Decoder), (RunEncoder, RunDecoder)


# ---- a server, and clients of all kinds


def config(identity: str, *extensions: str) -> bytes:
    return Config("0", (), identity, extensions).encode()


@pytest.mark.parametrize(
    ("request_", "reply", "form"),
    [
        (config(""), b"", GOB),
        (config(IDENTITY), SAYS_NOTHING, GOB),
        (config(IDENTITY, "of-a-later-version"), SAYS_NOTHING, GOB),
        (config(IDENTITY, "of-a-later-version", DATAGRAM_RUNS), SAYS_YES, RUNS),
    ],
    ids=["go", "old", "another extension", "new"],
)
async def test_a_server_speaks_the_form_that_the_client_asked_for(
    request_: bytes,
    reply: bytes,
    form: tuple[type[DatagramEncoder], type[DatagramDecoder]],
) -> None:
    encoder, decoder = form[0](), form[1]()
    async with (
        udp_echo() as target,
        running_server() as server,
        peer_of(server.addresses[0], "in") as peer,
    ):
        answer = await peer.send_config(payload=request_)
        assert answer[0] == messages.REQUEST_SUCCESS
        # The server's own identity is another one in each run.
        assert re.sub(rb',"Node":"[0-9a-f]+"', b"", answer[1:]) == reply
        number = await peer.open_channel(f"{target}/udp")
        await peer.send(channel_data(number, encoder.encode("a:1", b"hello")))
        data = await peer.receive_type(messages.CHANNEL_DATA)
        assert list(datagrams_in(decoder, data[9:])) == [Datagram("a:1", b"hello")]


async def test_later_config_requests_of_a_session_change_nothing() -> None:
    async with (
        udp_echo() as target,
        running_server() as server,
        peer_of(server.addresses[0], "in") as peer,
    ):
        await peer.send_config(payload=config(IDENTITY, *OURS))
        later = messages.global_request(b"config@cotun-trio", config(IDENTITY), want_reply=True)
        await peer.send(later)
        assert (await peer.receive())[1:] == SAYS_NOTHING
        number = await peer.open_channel(f"{target}/udp")
        await peer.send(channel_data(number, RunEncoder().encode("a:1", b"hello")))
        data = await peer.receive_type(messages.CHANNEL_DATA)
        assert list(datagrams_in(RunDecoder(), data[9:])) == [Datagram("a:1", b"hello")]


@pytest.mark.parametrize(
    ("extensions", "wrong"), [(OURS, Encoder()), ((), RunEncoder())], ids=["gob", "runs"]
)
async def test_the_other_form_ends_the_session_of_its_sender_only(
    extensions: tuple[str, ...], wrong: DatagramEncoder
) -> None:
    async with (
        udp_echo() as target,
        bystander(r"closed after .*: UDP stream: ") as server,
        peer_of(server, "in") as peer,
    ):
        await peer.send_config(payload=config(IDENTITY, *extensions))
        number = await peer.open_channel(f"{target}/udp")
        await peer.send(channel_data(number, wrong.encode("127.0.0.1:50000", b"hello")))
        assert await peer.gone()


# ---- a client, and servers of all kinds


@pytest.mark.parametrize(
    ("ours", "reply", "form"),
    [(False, b"", GOB), (True, SAYS_NOTHING, GOB), (True, SAYS_YES, RUNS)],
    ids=["go", "old", "new"],
)
async def test_a_client_speaks_the_form_that_the_server_agreed_to(
    ours: bool,
    reply: bytes,
    form: tuple[type[DatagramEncoder], type[DatagramDecoder]],
) -> None:
    requests: list[bytes] = []

    async def script(peer: Peer) -> None:
        requests.append(await peer.let_client_in(reply))
        number = int.from_bytes((await peer.receive_type(messages.CHANNEL_OPEN))[11:15])
        await peer.send(messages.open_confirmation(number, 7, WINDOW, MAX_PACKET))
        data = await peer.receive_type(messages.CHANNEL_DATA)
        (datagram,) = datagrams_in(form[1](), data[9:])
        answer = form[0]().encode(datagram.source, b"echo of " + datagram.payload)
        await peer.send(channel_data(number, answer))
        await peer.gone()

    async with (
        scripted_server(script, host_key(), ours=ours) as server,
        running_client(server, "127.0.0.1:0:127.0.0.1:1/udp", protocol="chisel") as client,
        udp_socket() as (source, _),
    ):
        await client.opened()
        assert await ask(source, client.addresses[0], b"hello") == b"echo of hello"
    fields = json.loads(requests[0][requests[0].index(b"{") :])
    asked = fields.get("CotunTrio", {}).get("Extensions")
    assert asked == (list(OURS) if ours else None)


async def test_a_channel_right_behind_the_reply_has_the_form_that_was_agreed_in_it() -> None:
    sessions: list[Peer] = []
    heard: list[Datagram] = []
    answered = trio.Event()
    async with udp_socket() as (target, far):

        async def script(peer: Peer) -> None:
            sessions.append(peer)
            opening = messages.channel_open(b"chisel", 0, WINDOW, MAX_PACKET, f"{far}/udp".encode())
            reply = SAYS_YES.replace(b"[]", b'["127.0.0.1:5000"]')
            await peer.let_client_in(reply, opening)
            answer = await peer.receive_type(messages.CHANNEL_OPEN_CONFIRMATION)
            number = int.from_bytes(answer[5:9])
            await peer.send(channel_data(number, RunEncoder().encode("a:1", b"hello")))
            data = await peer.receive_type(messages.CHANNEL_DATA)
            heard.extend(datagrams_in(RunDecoder(), data[9:]))
            answered.set()
            await peer.gone()

        async with (
            scripted_server(script, host_key(), ours=True) as server,
            running_client(server, f"R:5000:{far}/udp", protocol="chisel") as client,
        ):
            data, source = await target.recvfrom(100)
            assert data == b"hello"
            await target.sendto(b"hello yourself", source)
            await client.opened()
            await answered.wait()
    assert heard == [Datagram("a:1", b"hello yourself")]
    assert len(sessions) == 1  # after an error there would be another one


async def test_a_server_that_sends_gob_though_it_agreed_ends_the_session() -> None:
    async def script(peer: Peer) -> None:
        await peer.let_client_in(SAYS_YES)
        number = int.from_bytes((await peer.receive_type(messages.CHANNEL_OPEN))[11:15])
        await peer.send(messages.open_confirmation(number, 7, WINDOW, MAX_PACKET))
        await peer.send(channel_data(number, Encoder().encode("127.0.0.1:50000", b"hello")))
        await peer.gone()

    async with (
        watch_logs() as log,
        scripted_server(script, host_key(), ours=True) as server,
        running_client(server, "127.0.0.1:0:127.0.0.1:1/udp", protocol="chisel") as client,
        udp_socket() as (source, _),
    ):
        await client.opened()
        await source.sendto(b"hello", split_address(client.addresses[0]))
        await log.wait_for("Disconnected: UDP stream: ", "client")
        assert not log.find("internal error")


# ---- both


@pytest.mark.parametrize("reverse", [False, True], ids=["out", "reverse"])
async def test_two_of_ours_agree_on_runs_for_remotes_and_for_socks(reverse: bool) -> None:
    async with (
        udp_echo() as target,
        tunnel(
            remotes=tuple(f"{'R:' * reverse}127.0.0.1:0:{to}" for to in (f"{target}/udp", "socks")),
            server={"reverse": True, "socks5": True},
        ) as both,
        udp_socket() as (source, _),
    ):
        session = both.client.sessions[0]
        near, proxy = session.reverse_addresses if reverse else both.client.addresses
        for end in (session, both.server.sessions[0]):
            assert end.flows.datagrams_in_runs
        for data in (b"", b"1", bytes(9000)):
            assert await ask(source, near, data) == data
        async with await connect(proxy) as stream:
            _, host, port = await socks_request(stream, "0.0.0.0", 0, command=3)
            for data in (b"", b"1", bytes(9000)):
                datagram = bytes(3) + socks_address(*split_address(target)) + data
                assert await ask(source, f"{host}:{port}", datagram) == datagram
