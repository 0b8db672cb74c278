"""Every kind of listener with every kind of target, in both directions, over real sockets."""

from __future__ import annotations

import contextlib
import itertools
import os
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio

from cotun_trio.errors import OpenRefused
from cotun_trio.forwards import stdio
from tests.support.ends import connect_to, listening_unix, socks_request
from tests.support.leaks import nothing_left
from tests.support.targets import (
    MiB,
    answer_after_eof,
    echo,
    echoes,
    exchange,
    free_port,
    listening,
    random_bytes,
    receive_all,
    reset,
    sha256,
    split_address,
)
from tests.support.tunnel import running_client, running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.ends import Handler
    from tests.support.tunnel import WatchedClient

LISTENERS = {
    "tcp": "127.0.0.1:0",
    "tcp6": "[::1]:0",
    "unix": "unix:{path}/in.sock",
    "socks": "127.0.0.1:0",
    "socks6": "[::1]:0",
    "socks-unix": "unix:{path}/in.sock",
    "stdio": "stdio",
}
HOSTS = {"tcp": "127.0.0.1", "tcp6": "::1"}
TARGETS = [*HOSTS, "unix"]


@attrs.frozen
class Pairing:
    """One kind of listener, one kind of target, and which side listens."""

    listener: str
    target: str
    reverse: bool

    def __str__(self) -> str:
        return f"{'R-' if self.reverse else ''}{self.listener}-{self.target}"

    @property
    def socks(self) -> bool:
        """Whether the target is named in the connection."""
        return self.listener.startswith("socks")

    @property
    def makes_sense(self) -> bool:
        """Whether there is such a thing."""
        if self.socks:
            return self.target != "unix"  # which no SOCKS request can name
        return not (self.listener == "stdio" and self.reverse)


PAIRINGS = [
    pairing
    for args in itertools.product(LISTENERS, TARGETS, [False, True])
    if (pairing := Pairing(*args)).makes_sense
]
EVERY_PAIRING = pytest.mark.parametrize("pairing", PAIRINGS, ids=str)


class Flow:
    """A tunnel with one remote, of any kind."""

    def __init__(self, pairing: Pairing, client: WatchedClient, target: str) -> None:
        self._pairing = pairing
        self._client = client
        self._target = target
        self.address = ""
        self.pipes: list[trio.lowlevel.FdStream] = []

    @contextlib.asynccontextmanager
    async def open(self, *, code: int = 0) -> AsyncIterator[trio.abc.HalfCloseableStream]:
        """Connect to the target; with SOCKS, `code` is what its answer has to be."""
        stream: Any = (
            trio.StapledStream(*self.pipes) if self.pipes else await connect_to(self.address)
        )
        async with stream:
            if self._pairing.socks:
                assert (await socks_request(stream, *split_address(self._target)))[0] == code
            yield stream


@contextlib.asynccontextmanager
async def standard_streams(
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[list[trio.lowlevel.FdStream]]:
    """Put pipes in place of standard input and output; give the other ends of both."""
    stdin, to_stdin = os.pipe()
    from_stdout, stdout = os.pipe()
    monkeypatch.setattr(stdio, "STDIN", stdin)
    monkeypatch.setattr(stdio, "STDOUT", stdout)
    async with (
        trio.lowlevel.FdStream(to_stdin) as write,
        trio.lowlevel.FdStream(from_stdout) as read,
    ):
        try:
            yield [write, read]
        finally:
            os.close(stdin)
            os.close(stdout)


@contextlib.asynccontextmanager
async def forwarding(
    pairing: Pairing, target: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Flow]:
    """Run a tunnel to `target`."""
    where = LISTENERS[pairing.listener].format(path=path)
    remote = f"{'R:' * pairing.reverse}{where}:{'socks' if pairing.socks else target}"
    async with contextlib.AsyncExitStack() as stack:
        pipes = []
        if pairing.listener == "stdio":
            pipes = await stack.enter_async_context(standard_streams(monkeypatch))
        server = await stack.enter_async_context(
            running_server(reverse=True, socks5=True, unix=True)
        )
        client = await stack.enter_async_context(running_client(server.addresses[0], remote))
        session = await client.opened()
        forward = Flow(pairing, client, target)
        forward.pipes = pipes
        if not pipes:
            (forward.address,) = session.reverse_addresses if pairing.reverse else client.addresses
        yield forward


@contextlib.asynccontextmanager
async def target_of(pairing: Pairing, handler: Handler, path: Path) -> AsyncIterator[str]:
    """Run a target of the right kind; give its address as it stands in a remote."""
    if pairing.target == "unix":
        async with listening_unix(handler, path / "out.sock") as address:
            yield address
    else:
        async with listening(handler, HOSTS[pairing.target]) as address:
            yield address


@EVERY_PAIRING
async def test_a_byte_and_8_mib_come_back_unchanged_and_nothing_is_left(
    pairing: Pairing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random_bytes(8 * MiB)
    async with (
        nothing_left(),
        target_of(pairing, echo, tmp_path) as target,
        forwarding(pairing, target, tmp_path, monkeypatch) as forward,
        forward.open() as stream,
    ):
        assert await echoes(stream, b"\x00")
        assert await exchange(stream, data) == (len(data), sha256(data))


@EVERY_PAIRING
async def test_a_reply_arrives_whole_after_our_end(
    pairing: Pairing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question, reply = random_bytes(100_000, 1), random_bytes(MiB, 2)
    async with (
        target_of(pairing, answer_after_eof(reply), tmp_path) as target,
        forwarding(pairing, target, tmp_path, monkeypatch) as forward,
        forward.open() as stream,
    ):
        await stream.send_all(question)
        await stream.send_eof()
        assert await receive_all(stream) == sha256(question).encode() + reply


@EVERY_PAIRING
async def test_a_target_where_nobody_listens_ends_the_connection(
    pairing: Pairing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pairing.target == "unix":
        target = f"unix:{tmp_path}/nobody.sock"
    else:
        host = HOSTS[pairing.target]
        target = f"{'[::1]' if ':' in host else host}:{free_port()}"
    refused = False
    try:
        async with (
            forwarding(pairing, target, tmp_path, monkeypatch) as forward,
            forward.open(code=5) as stream,
        ):
            if pairing.listener in ("tcp", "tcp6"):
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()
            else:
                assert await receive_all(stream) == b""
    except* OpenRefused:
        refused = True
    assert refused == (pairing.listener == "stdio")  # which has nothing left to do


@EVERY_PAIRING
async def test_a_target_that_vanishes_in_the_middle_ends_its_connection_and_no_other(
    pairing: Pairing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        async for data in stream:
            if data == b"vanish":
                reset(stream)
                return
            await stream.send_all(data)

    async with (
        target_of(pairing, handler, tmp_path) as target,
        forwarding(pairing, target, tmp_path, monkeypatch) as forward,
        contextlib.AsyncExitStack() as stack,
    ):
        others = []
        if pairing.listener != "stdio":
            others = [await stack.enter_async_context(forward.open())]
        async with forward.open() as stream:
            assert await echoes(stream)
            await stream.send_all(b"vanish")
            if pairing.target == "unix" or pairing.listener in ("unix", "socks-unix", "stdio"):
                # A Unix socket and a pipe have no reset.
                with contextlib.suppress(trio.BrokenResourceError):
                    assert await receive_all(stream) == b""
            else:
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()
        for other in others:
            assert await echoes(other)
