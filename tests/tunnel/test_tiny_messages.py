"""Messages that carry little or nothing, sent as fast as they go, at either end of a session.

They are counted in the steps of the task that reads them: what happens in one step is what
everybody else has to wait for.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import trio

from cotun_trio.budget import DIAL, OPEN, PACKET, REQUEST, TURN
from cotun_trio.ssh import messages
from cotun_trio.ssh.messages import channel_open, global_request, string, window_adjust
from cotun_trio.websocket.frames import Framer
from tests.support.peer import MAX_PACKET, WINDOW, peer_of, scripted_server
from tests.support.ssh import channel_data, host_key
from tests.support.steps import counted_steps
from tests.support.targets import background, echo, listening
from tests.support.tunnel import running_client, running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from cotun_trio.session import Session
    from tests.support.peer import Peer
    from tests.support.steps import Steps

DEBUG = b"\x04\0" + string(b"hello") + string(b"")


def kinds(number: int) -> dict[str, tuple[bytes, int]]:
    """Return a message of each kind, and its units; `number` is that of an open channel."""
    refused = channel_open(b"chisel", 9, WINDOW, MAX_PACKET, b"not:allowed:1")
    request = messages.about_channel(messages.CHANNEL_REQUEST, number) + string(b"shell") + b"\1"
    extended = messages.about_channel(messages.CHANNEL_EXTENDED_DATA, number) + b"\0\0\0\1"
    return {
        "IGNORE": (b"\2" + string(b""), PACKET),
        "DEBUG": (DEBUG, PACKET),
        "UNIMPLEMENTED": (b"\3\0\0\0\0", PACKET),
        "EXT_INFO": (b"\7\0\0\0\0", PACKET),
        "a login after the login": (b"\x32", PACKET),
        "unknown": (b"\x0b", PACKET + REQUEST),
        "unknown of the connection": (b"\xc0", PACKET + REQUEST),
        "unknown requests": (global_request(b"x", b"", want_reply=True), PACKET + REQUEST),
        "silent requests": (global_request(b"x", b"", want_reply=False), PACKET + REQUEST),
        "pings": (global_request(b"ping", b"", want_reply=True), PACKET + REQUEST),
        "refused openings": (refused, PACKET + OPEN + DIAL),
        "empty data": (channel_data(number, b""), PACKET),
        "bytes": (channel_data(number, b"x"), PACKET),
        "a second stream": (extended + string(b"x"), PACKET),
        "window adjustments": (window_adjust(number, 1), PACKET),
        "channel requests": (request, PACKET + REQUEST),
    }


KINDS = tuple(kinds(0))


def count_packets(session: Session, steps: Steps) -> None:
    """Count each packet that `session` processes from now on."""
    packetizer: Any = session.connection._packetizer
    packets = packetizer.packets

    def counted(data: memoryview) -> Iterator[memoryview]:
        for payload in packets(data):
            steps.count()
            yield payload

    packetizer.packets = counted


@contextlib.asynccontextmanager
async def server_victim() -> AsyncIterator[tuple[Session, Peer, int]]:
    """Give a server's session, the guest at its other end, and the number of an open channel."""
    async with (
        listening(echo) as target,
        running_server() as server,
        peer_of(server.addresses[0], "open") as peer,
    ):
        number = await peer.open_channel(target)
        yield server.sessions[0], peer, number


@contextlib.asynccontextmanager
async def client_victim() -> AsyncIterator[tuple[Session, Peer, int]]:
    """Give a client's session, the hostile server at its other end, and the same."""
    send, receive = trio.open_memory_channel[tuple[Any, int]](1)
    done = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.let_client_in()
        await send.send((peer, await peer.open_channel(target)))
        await done.wait()

    async with (
        listening(echo) as target,
        scripted_server(script, host_key()) as server,
        running_client(server, f"R:1:{target}") as client,
    ):
        session = await client.opened()
        peer, number = await receive.receive()
        yield session, peer, number
        done.set()


@pytest.mark.parametrize("victim", [server_victim, client_victim])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_step_has_no_more_of_them_than_a_turn(victim: Any, kind: str) -> None:
    async with victim() as (session, peer, number), background() as nursery:
        message, units = kinds(number)[kind]
        count = 3 * TURN // units
        with counted_steps() as steps:
            count_packets(session, steps)
            others = 0
            nursery.start_soon(peer.send, *[message] * count)
            while steps.total < count:
                others += 1
                await trio.lowlevel.checkpoint()
        assert steps.most <= TURN // units + 1
        assert others >= 3
        assert session.failure is None


@pytest.mark.slow
async def test_a_burst_is_processed_to_its_end_when_nothing_comes_behind_it() -> None:
    # Frames and packets each keep a rest of their own: with some sizes both do, with others one.
    ignore, ping = b"\2" + string(b""), global_request(b"ping", b"", want_reply=True)
    async with running_server() as server, peer_of(server.addresses[0], "open") as peer:
        for count in range(1, 4 * TURN // PACKET, 7):
            for in_a_frame in (1, 3, 50, count):
                burst = [*[ignore] * count, ping]
                sent = bytearray()
                for start in range(0, len(burst), in_a_frame):
                    for payload in burst[start : start + in_a_frame]:
                        peer.engine.packetizer.send_payload(payload)
                    out = peer.engine.packetizer.out
                    sent += b"".join(Framer(mask=True).frames(out))
                    out.clear()
                with trio.fail_after(10):
                    await peer.send_raw(bytes(sent))
                    assert (await peer.receive())[0] == messages.REQUEST_SUCCESS
