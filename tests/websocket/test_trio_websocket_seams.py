"""What `cotun_trio.websocket` relies on in trio-websocket, wsproto, h11 and websockets.

One test each, so that an upgrade of one of them says what it breaks.  Each docstring names what
relies on it.
"""

from __future__ import annotations

import contextlib
import inspect
from typing import TYPE_CHECKING

import h11
import pytest
import trio
import trio.testing
import trio_websocket
import wsproto.events
import wsproto.utilities
from websockets import speedups

from tests.support.frames import BINARY, CLOSE, KEY, PING, TEXT, frame, read_by_wsproto, xor
from tests.support.wires import ACCEPTED, REQUEST, accept_value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


class FakeStream(trio.abc.Stream):
    """Notes what trio-websocket does to its stream; `say` is the peer."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.asked: list[int | None] = []
        self.readers: set[str] = set()
        self.closed = 0
        self._put, self._get = trio.open_memory_channel[bytes | Exception](100)

    def say(self, data: bytes | Exception) -> None:
        """Have the next read return this, or raise it."""
        self._put.send_nowait(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return or raise what was said."""
        self.asked.append(max_bytes)
        self.readers.add(trio.lowlevel.current_task().name)
        data = await self._get.receive()
        if isinstance(data, Exception):
            raise data
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Note what is sent."""
        self.sent.append(bytes(data))
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        """Nobody calls it."""
        raise AssertionError

    async def aclose(self) -> None:
        """Count it."""
        self.closed += 1
        self.say(trio.ClosedResourceError())
        await trio.lowlevel.checkpoint()


class FakeNursery:
    """Has nothing but `start_soon`, and notes how the reader ended."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.started: list[Callable[[], Awaitable[object]]] = []
        self.ended = trio.Event()
        self.raised: BaseException | None = None
        self._nursery = nursery

    def start_soon(self, reader: Callable[[], Awaitable[object]]) -> None:
        """Start the reader behind a guard."""
        self.started.append(reader)
        self._nursery.start_soon(self._run, reader)

    async def _run(self, reader: Callable[[], Awaitable[object]]) -> None:
        try:
            await reader()
        except (h11.ProtocolError, wsproto.utilities.ProtocolError, ValueError) as error:
            self.raised = error
        finally:
            self.ended.set()


@contextlib.asynccontextmanager
async def fakes() -> AsyncIterator[tuple[FakeStream, FakeNursery, trio.Nursery]]:
    """Give a stream, something to start readers in, and a nursery that is cancelled in the end."""
    async with trio.open_nursery() as nursery:
        yield FakeStream(), FakeNursery(nursery), nursery
        nursery.cancel_scope.cancel()


async def connected(
    stream: FakeStream, starter: FakeNursery, nursery: trio.Nursery, *, host: str = "h"
) -> None:
    """Do a client's handshake; answer it."""

    async def answer() -> None:
        while not stream.sent:
            await trio.lowlevel.checkpoint()
        stream.say(ACCEPTED % accept_value(stream.sent[0]))

    nursery.start_soon(answer)
    await trio_websocket.wrap_client_stream(
        starter,  # type: ignore[arg-type]
        stream,  # type: ignore[arg-type]
        host,
        "/",
        subprotocols=["chisel-v3"],
        extra_headers=[(b"X-One", b"na\xefve")],
        receive_buffer_size=1234,
    )


def connecting(stream: FakeStream, starter: FakeNursery) -> Callable[[], Awaitable[object]]:
    """Return a client's handshake that nobody answers but who says so."""
    return lambda: trio_websocket.wrap_client_stream(starter, stream, "h", "/")  # type: ignore[arg-type]


async def accepted(stream: FakeStream, starter: FakeNursery, head: bytes = REQUEST) -> None:
    """Do a server's handshake."""
    stream.say(head)
    request = await trio_websocket.wrap_server_stream(starter, stream)  # type: ignore[arg-type]
    await request.accept(subprotocol="chisel-v3")


# ---- the reader


async def test_each_role_starts_one_task_by_start_soon_and_nothing_else() -> None:
    """`handshake._Guard` stands in for a nursery and has only that; it calls with no arguments."""
    async with fakes() as (stream, starter, nursery):
        await connected(stream, starter, nursery)
        assert len(starter.started) == 1
        assert not inspect.signature(starter.started[0]).parameters
    async with fakes() as (stream, starter, _):
        await accepted(stream, starter)
        assert len(starter.started) == 1


async def test_only_the_reader_reads_and_goes_on_reading_after_the_handshake() -> None:
    """`Wire.receive_some` is the session's read loop, which one task runs at a time."""
    async with fakes() as (stream, starter, nursery):
        await connected(stream, starter, nursery)
        await trio.testing.wait_all_tasks_blocked()
        assert len(stream.asked) == 2  # the response, and what comes after it
        assert len(stream.readers) == 1
        assert not starter.ended.is_set()


async def test_the_buffer_size_is_only_passed_on_to_receive_some() -> None:
    """`Wire.receive_some` takes one argument and reads as much as it likes."""
    async with fakes() as (stream, starter, nursery):
        await connected(stream, starter, nursery)
        await trio.testing.wait_all_tasks_blocked()
        assert set(stream.asked) == {1234}


@pytest.mark.parametrize(
    "end", [b"", trio.BrokenResourceError(), trio.ClosedResourceError()], ids=repr
)
async def test_the_end_of_the_stream_ends_the_reader_quietly(end: bytes | Exception) -> None:
    """`handshake._Guard` takes a reader that returns for the end of the WebSocket."""
    async with fakes() as (stream, starter, nursery):
        await connected(stream, starter, nursery)
        stream.say(end)
        await starter.ended.wait()
        assert starter.raised is None


async def test_a_bad_response_raises_in_the_reader_and_leaves_the_caller_waiting() -> None:
    """`handshake._handshake` watches the wire, and `_Guard` catches h11's and wsproto's errors."""
    async with fakes() as (stream, starter, _):
        stream.say(ACCEPTED % b"wrong")
        with trio.CancelScope() as scope:

            async def stop() -> None:
                await starter.ended.wait()
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(stop)
                await connecting(stream, starter)()
        assert scope.cancelled_caught
        assert isinstance(starter.raised, (h11.ProtocolError, wsproto.utilities.ProtocolError))


async def test_what_is_wrong_with_a_response_is_a_remote_error_in_the_context() -> None:
    """`handshake._first_fault` finds it there, behind what trio-websocket makes of it."""
    async with fakes() as (stream, starter, nursery):
        stream.say(ACCEPTED % b"wrong")
        nursery.start_soon(connecting(stream, starter))
        await starter.ended.wait()
        error: BaseException | None = starter.raised
        while error and not isinstance(error, wsproto.utilities.RemoteProtocolError):
            error = error.__context__
        assert str(error) == "Bad accept token"


@pytest.mark.parametrize("value", [b"xn--0", b"caf\xe9"])
async def test_a_host_that_is_no_name_raises_a_unicode_error_in_the_reader(value: bytes) -> None:
    """Why `http.front.upgrade_head` shows a Host of its own; `_Guard` would catch it."""
    async with fakes() as (stream, starter, nursery):
        head = REQUEST.replace(b"localhost", value)
        nursery.start_soon(accepted, stream, starter, head)
        await starter.ended.wait()
        assert isinstance(starter.raised, UnicodeError)


# ---- what is sent


async def test_the_request_is_sent_in_one_piece_with_our_headers_as_they_are() -> None:
    """`Wire.send_all` pushes what it gets; `handshake.connect` promises its headers."""
    async with fakes() as (stream, starter, nursery):
        await connected(stream, starter, nursery, host="Example.COM:8080")
        assert len(stream.sent) == 1
        assert stream.sent[0].endswith(b"\r\n\r\n")
        assert b"\r\nX-One: na\xefve\r\n" in stream.sent[0]
        assert b"\r\nHost: Example.COM:8080\r\n" in stream.sent[0]
        assert b"\r\nSec-WebSocket-Protocol: chisel-v3\r\n" in stream.sent[0]


async def test_a_client_offers_no_extension() -> None:
    """`FrameFilter` refuses reserved bits, which extensions use."""
    async with fakes() as (stream, starter, nursery):
        await connected(stream, starter, nursery)
        assert b"sec-websocket-extensions" not in stream.sent[0].lower()


async def test_a_server_agrees_to_no_extension() -> None:
    """The same, from the other side."""
    offer = b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    async with fakes() as (stream, starter, _):
        await accepted(stream, starter, REQUEST[:-2] + offer)
        assert b"extensions" not in stream.sent[0].lower()


async def test_a_server_answers_only_when_it_accepts_and_names_the_protocol() -> None:
    """`handshake.accept` agrees to the protocol that the front has looked at."""
    async with fakes() as (stream, starter, _):
        stream.say(REQUEST)
        request = await trio_websocket.wrap_server_stream(starter, stream)  # type: ignore[arg-type]
        await trio.testing.wait_all_tasks_blocked()
        assert not stream.sent
        await request.accept(subprotocol="chisel-v3")
        assert stream.sent[0].startswith(b"HTTP/1.1 101 ")
        assert b"\r\nSec-WebSocket-Protocol: chisel-v3\r\n" in stream.sent[0]


async def test_control_frames_are_sent_whole() -> None:
    """`Wire.send_all` sends between data frames, so a frame in two calls would be torn apart."""
    async with fakes() as (stream, starter, nursery):
        await connected(stream, starter, nursery)
        stream.say(frame(PING, b"x" * 125) + frame(PING, b"y"))
        await trio.testing.wait_all_tasks_blocked()
        pongs = [read_by_wsproto(data, from_client=True) for data in stream.sent[1:]]
        assert pongs == [
            [wsproto.events.Pong(payload=b"x" * 125)],
            [wsproto.events.Pong(payload=b"y")],
        ]


async def test_a_server_closes_the_stream_after_the_closing_handshake() -> None:
    """A session ends when its wire does; RFC 6455 section 7.1.1 has the server close first."""
    async with fakes() as (stream, starter, _):
        await accepted(stream, starter)
        stream.say(frame(CLOSE, b"\x03\xe8", key=KEY))
        await starter.ended.wait()
        assert [type(e) for e in read_by_wsproto(stream.sent[1], from_client=False)] == [
            wsproto.events.CloseConnection
        ]
        assert stream.closed == 1


async def test_a_client_answers_a_close_frame_and_then_waits_for_the_end() -> None:
    """Why `Wire.receive_some` returns the end itself behind a close frame."""
    async with fakes() as (stream, starter, nursery):
        await connected(stream, starter, nursery)
        stream.say(frame(CLOSE, b"\x03\xe8"))
        await trio.testing.wait_all_tasks_blocked()
        assert len(stream.sent) == 2
        assert not starter.ended.is_set()
        stream.say(b"")
        await starter.ended.wait()


async def test_a_close_frame_that_is_malformed_is_not_answered() -> None:
    """The same: nobody but the wire ends the session of a client then."""
    async with fakes() as (stream, starter, nursery):
        await connected(stream, starter, nursery)
        stream.say(frame(CLOSE, b"\x03"))
        await trio.testing.wait_all_tasks_blocked()
        assert len(stream.sent) == 1
        assert not starter.ended.is_set()


async def test_a_message_that_nobody_fetches_would_stop_the_reader() -> None:
    """Why no data frame may ever reach trio-websocket."""
    async with fakes() as (stream, starter, nursery):
        await connected(stream, starter, nursery)
        stream.say(frame(BINARY, b"one") + frame(TEXT, b"two") + frame(PING))
        await trio.testing.wait_all_tasks_blocked()
        assert len(stream.sent) == 1  # no pong


# ---- h11 and websockets


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\n\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\n",
        b"HTTP/1.1 101 Switching Protocols\n\r\n",
        b"HTTP/1.1 101\r\n\r\n",
        b"HTTP/1.1 101 \r\n\r\n",
        b"HTTP/1.0 101 x\r\n\r\n",
    ],
)
def test_h11_sees_the_end_of_a_response_where_the_wire_does(head: bytes) -> None:
    """`Wire._receive_head` splits the frames off there, and has to know a 101 by itself."""
    parser = h11.Connection(h11.CLIENT)
    upgrade = [("Host", "h"), ("Upgrade", "websocket"), ("Connection", "Upgrade")]
    parser.send(h11.Request(method="GET", target="/", headers=upgrade))
    parser.send(h11.EndOfMessage())
    parser.receive_data(head + b"frames")
    event = parser.next_event()
    assert isinstance(event, h11.InformationalResponse)
    assert event.status_code == 101
    assert parser.trailing_data[0] == b"frames"


@pytest.mark.parametrize("size", [*range(20), 1000, 65537])
def test_the_mask_of_websockets_is_the_rfcs_and_takes_a_memoryview(size: int) -> None:
    """`frames.FrameFilter` and `frames.frames` mask with it."""
    data = bytes(number & 0xFF for number in range(size))
    masked = speedups.apply_mask(memoryview(data), KEY)
    assert type(masked) is bytes
    assert masked == xor(data, KEY)
