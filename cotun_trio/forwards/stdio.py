"""The stdio remote: standard input and output as the local end, for ``ssh -o ProxyCommand``.

Both are used as they are, byte for byte, and each ends by itself.  Pipes and sockets are waited for
by Trio; a terminal or a file is read and written in a thread, because a terminal that is made
non-blocking is so for everybody who has it open, and a file cannot be waited for at all.
"""

from __future__ import annotations

import os
import stat
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from cotun_trio.errors import ConnectionLost
from cotun_trio.ssh.stream import ChannelStream

if TYPE_CHECKING:
    import io
    from collections.abc import AsyncIterator, Awaitable, Callable

    from cotun_trio.ssh.channel import Channel

STDIN, STDOUT = 0, 1
READ = 64 * 1024
CLOSE_TIMEOUT = 10.0
"""Seconds for the peer to say that it is done, too."""


async def carry_stdio(channel: Channel) -> None:
    """Carry standard input and output through `channel`, until both have ended.  Owns the channel.

    Standard output is closed when its end has come, so that its reader notices.  Raises
    `ConnectionLost` where it did not come.
    """
    async with ChannelStream(channel) as stream, trio.open_nursery() as nursery:
        outward_ended = trio.Event()

        async def move_outwards() -> None:
            await _move_outwards(stream)
            outward_ended.set()

        async def watch_channel() -> None:
            await stream.peer_closed.wait()
            outward_ended.set()  # nothing that we read would get anywhere

        nursery.start_soon(move_outwards)
        nursery.start_soon(watch_channel)
        whole = await _move_inwards(stream)
        if whole:
            await outward_ended.wait()
            # The peer closes when it has passed on the last byte; until then it is still ours.
            with trio.move_on_after(CLOSE_TIMEOUT):
                await stream.peer_closed.wait()
            whole = not channel.lost  # or the data that we sent last may be lost with it
        nursery.cancel_scope.cancel()
    if not whole:
        raise ConnectionLost("the tunnel was lost")


async def _move_outwards(stream: ChannelStream) -> None:
    """Send the data of standard input, and its end."""
    try:
        async with _reader(STDIN) as read:
            while data := await read():
                await stream.send_all(data)
        await stream.send_eof()
    except (OSError, trio.BrokenResourceError):
        pass  # the target has closed; only its own data counts now


async def _move_inwards(stream: ChannelStream) -> bool:
    """Write received data to standard output; return whether its end came."""
    try:
        async with _writer(STDOUT) as write:
            while data := await stream.receive_some():
                await write(data)
    except (OSError, trio.BrokenResourceError):
        return False
    finally:
        # Not just closed: the next file that is opened must not become standard output.
        with open(os.devnull, "wb") as nowhere:  # noqa: ASYNC230, PTH123
            os.dup2(nowhere.fileno(), STDOUT)
    return True


@asynccontextmanager
async def _reader(descriptor: int) -> AsyncIterator[Callable[[], Awaitable[bytes]]]:
    """Give a function that reads from `descriptor`."""
    if _can_be_waited_for(descriptor):
        async with trio.lowlevel.FdStream(os.dup(descriptor)) as stream:
            yield partial(stream.receive_some, READ)
    else:
        yield partial(trio.to_thread.run_sync, os.read, descriptor, READ, abandon_on_cancel=True)


@asynccontextmanager
async def _writer(descriptor: int) -> AsyncIterator[Callable[[bytes], Awaitable[object]]]:
    """Give a function that writes all of some bytes to `descriptor`."""
    if _can_be_waited_for(descriptor):
        async with trio.lowlevel.FdStream(os.dup(descriptor)) as stream:
            yield stream.send_all
    else:
        with os.fdopen(os.dup(descriptor), "wb", buffering=0) as file:
            yield partial(_write_all, file)


async def _write_all(file: io.FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        # A terminal that is stopped (^S) takes nothing, and does not hold the end up.
        rest = rest[await trio.to_thread.run_sync(file.write, rest, abandon_on_cancel=True) :]


def _can_be_waited_for(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
