"""``-vv``: a line for each message, with its name and its size, and nothing of its content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.access.credentials import Credentials
from cotun_trio.logs import get_logger
from cotun_trio.logs.context import TRACE
from cotun_trio.ssh.packetizer import Packetizer
from cotun_trio.ssh.trace import packetizer_for
from cotun_trio.websocket.trace import TracedStream
from tests.support.log_watch import watch_logs
from tests.support.targets import echoes
from tests.support.tunnel import echo_tunnel

if TYPE_CHECKING:
    from tests.support.log_watch import LogWatch


def messages(log: LogWatch, side: str, verb: str) -> list[str]:
    """Return the SSH messages of one end that were sent or received, except for data."""
    found = log.find(f"(?:^|: ){verb}(SSH .*)", side)
    return [match[1] for match in found if "CHANNEL_DATA" not in match[1]]


async def test_each_message_has_a_line_at_both_ends_and_no_line_has_the_password() -> None:
    auth = Credentials("alice", "hunter2")
    async with (
        watch_logs(TRACE) as log,
        echo_tunnel(server={"auth": auth}, client={"auth": auth}) as both,
        await both.connect() as stream,
    ):
        assert await echoes(stream)
    for side, other in (("client", "server"), ("server", "client")):
        sent = messages(log, side, "sent ")
        received = messages(log, other, "received ")  # the last ones may be lost with the session
        assert len(received) >= 8
        assert sent[: len(received)] == received
    for name in (
        "KEXINIT",
        "KEX_INIT",
        "NEWKEYS",
        "USERAUTH_REQUEST",
        "GLOBAL_REQUEST",
        "CHANNEL_OPEN",
    ):
        assert log.find(f"sent SSH {name}, [0-9]+ bytes$", "client"), name
    assert log.find("sent SSH CHANNEL_DATA to channel 0, [0-9]+ bytes of data$", "client")
    assert log.find("sent [0-9]+ bytes of the handshake", "client")
    assert not log.find("hunter2")


def test_without_traces_nothing_is_wrapped() -> None:
    assert packetizer_for(get_logger("server")) is Packetizer


async def test_a_ping_between_other_frames_is_seen() -> None:
    lines: list[str] = []

    class Log:
        def trace(self, msg: str, *args: object) -> None:
            lines.append(msg % args)

    stream = TracedStream(None, Log())  # type: ignore[arg-type]
    stream._trace("received", b"\x89\x02hi\x8a\x80abcd\x88\x02\x03\xe8")
    assert lines == [
        "received WebSocket ping, 2 bytes",
        "received WebSocket pong, 0 bytes",
        "received WebSocket close, 2 bytes",
    ]
