"""The options of TCP sockets, in a tunnel that runs."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cotun_trio.logs import get_logger
from cotun_trio.net.proxy import dial_through
from cotun_trio.net.sockets import KEEPALIVE, set_nodelay_and_keepalive
from cotun_trio.protocol.proxy_url import ProxyUrl
from cotun_trio.server.listening import SocketListening
from cotun_trio.system.systemd import Passed
from tests.support.proxies import running_proxy
from tests.support.targets import LOOPBACK, connect, echo, echoes, listening, split_address
from tests.support.tunnel import server_settings, tunnel

if TYPE_CHECKING:
    from collections.abc import Iterator

    import trio

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "TCP_KEEPIDLE"), reason="this system has other options"
)


def tcp_sockets() -> dict[int, tuple[int, int, int]]:
    """Return the keepalive options of the TCP sockets of this process, by inode: whether there is
    any, the seconds until the first probe, and between two."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(entry.name))) as sock:
            if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
                found[os.fstat(sock.fileno()).st_ino] = options(sock)
    return found


def options(sock: socket.socket | trio.socket.SocketType) -> tuple[int, int, int]:
    """Return the keepalive options of one socket."""
    return (
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    )


GO = (1, 15, 15)


class Own:
    """The sockets of a test itself: of the target, and of its client."""

    def __init__(self) -> None:
        self.inodes: set[int] = set()
        self.now: dict[int, tuple[int, int, int]] = {}

    def add(self, stream: trio.SocketStream) -> None:
        """Note one."""
        self.inodes.add(os.fstat(stream.socket.fileno()).st_ino)

    async def echo(self, stream: trio.SocketStream) -> None:
        """Be the target."""
        self.add(stream)
        await echo(stream)

    def note(self) -> None:
        """Note the options of all sockets that there are now."""
        self.now = tcp_sockets()

    @contextlib.contextmanager
    def checked(self, at_least: int) -> Iterator[None]:
        """Check the sockets that were noted in the block, except for those from before it."""
        before = set(tcp_sockets())
        yield
        others = {
            inode: found for inode, found in self.now.items() if inode not in before | self.inodes
        }
        assert len(others) >= at_least
        assert set(others.values()) == {GO}


@pytest.mark.parametrize(
    "remote", ["127.0.0.1:0:{0}:{1}", "R:127.0.0.1:0:{0}:{1}", "127.0.0.1:0:localhost:{1}"]
)
async def test_every_tcp_socket_of_a_tunnel_sends_probes_after_15_s(remote: str) -> None:
    own = Own()
    async with listening(own.echo) as target:
        remote = remote.format(*split_address(target))
        with own.checked(at_least=6):  # two listeners, and two ends of the wire and of the stream
            async with tunnel(remotes=(remote,), server={"reverse": True}) as both:
                client = both.client
                address = (client.addresses or client.sessions[0].reverse_addresses)[0]
                async with await connect(address) as stream:
                    own.add(stream)
                    assert await echoes(stream)
                    own.note()


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
async def test_a_connection_through_a_proxy_sends_probes_too(scheme: str) -> None:
    async with listening(echo) as target, running_proxy(socks=scheme != "http") as proxy:
        transport = await dial_through(
            ProxyUrl.parse(f"{scheme}://{proxy.address}"),
            *split_address(target),
            timeout=30.0,
            tls=None,
        )
        with transport.sock:
            assert options(transport.sock) == GO


async def test_sockets_that_were_passed_get_the_same_options_for_their_connections() -> None:
    with socket.socket() as main, socket.socket() as health:
        for sock in (main, health):
            sock.bind((LOOPBACK, 0))
            sock.listen()
        passed = Passed((main,), (health,))
        await SocketListening(server_settings(), get_logger("test"), passed).open()
        for sock in (main, health):
            with socket.create_connection(sock.getsockname()), sock.accept()[0] as accepted:
                assert options(accepted) == GO


def test_other_sockets_are_left_alone() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket(socket.AF_UNIX) as unix:
        set_nodelay_and_keepalive(udp)
        set_nodelay_and_keepalive(unix)


def test_the_figure_is_that_of_go() -> None:
    assert KEEPALIVE == 15
