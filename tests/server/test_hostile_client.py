"""Hostile clients against a real server, while somebody else's tunnel runs through it.

Every test checks, besides its own claim, that the other tunnel notices nothing, that nothing is
left behind, and that the log has exactly the one line that it should have (`bystander`).
"""

from __future__ import annotations

import logging
import struct
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.ssh import messages
from cotun_trio.ssh.messages import about_channel, channel_open, global_request, string
from tests.support.bystander import bystander
from tests.support.frames import BINARY, CLOSE, CONTINUATION, KEY, PING, TEXT, frame
from tests.support.log_watch import watch_logs
from tests.support.peer import MAX_PACKET, WINDOW, peer_of, upgrade_request
from tests.support.targets import connect, receive_all

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet

NOT_OPEN = "closed before it was open: "
GONE = NOT_OPEN + "the peer closed the connection"


def rows(*rows: tuple[bytes, str]) -> list[ParameterSet]:
    """Name each row of parameters by what it expects in the log."""
    return [pytest.param(*row, id=row[-1]) for row in rows]


# ---- HTTP


@pytest.mark.parametrize(
    ("request_head", "status", "line"),
    [
        pytest.param(upgrade_request(host="xn--0"), 101, GONE, id="host that is no IDNA"),
        pytest.param(upgrade_request(X="\xff\xfe"), 101, GONE, id="header that is not ASCII"),
        pytest.param(
            upgrade_request(sec_websocket_key="\xff"),
            400,
            "HTTP: a header sec-websocket-key that is not ASCII",
            id="key that is not ASCII",
        ),
        pytest.param(upgrade_request(drop="Sec-WebSocket-Key"), 400, NOT_OPEN, id="no key"),
        pytest.param(upgrade_request(drop="Sec-WebSocket-Version"), 400, NOT_OPEN, id="no version"),
        pytest.param(upgrade_request(sec_websocket_version="8"), 426, NOT_OPEN, id="wrong version"),
        pytest.param(upgrade_request(connection="close"), 400, NOT_OPEN, id="no upgrade"),
        pytest.param(
            upgrade_request(sec_websocket_protocol="chisel-v3, costrict-v3"),
            404,
            "ignored an upgrade to protocol 'chisel-v3, costrict-v3'",
            id="two tokens",
        ),
        pytest.param(
            upgrade_request(sec_websocket_protocol="\x80\x1b[2J"),
            404,
            r"ignored an upgrade to protocol '.*x80.x1b\[2J'",
            id="control character",
        ),
        pytest.param(
            upgrade_request(sec_websocket_protocol="v\xe9"),
            404,
            r"ignored an upgrade to protocol 'v\\xe9'",
            id="token that is not ASCII",
        ),
        pytest.param(upgrade_request(drop="Host"), 400, "HTTP: ", id="no host"),
        pytest.param(
            upgrade_request(X="x" * 9000), 431, "a request head of over 8192 bytes", id="oversize"
        ),
        pytest.param(b"x" * 9000, 431, "a request head of over 8192 bytes", id="endless line"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, "HTTP: ", id="TLS"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n",
            404,
            None,
            id="two lengths",
        ),
        pytest.param(b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "HTTP: ", id="NUL in the path"),
    ],
)
async def test_a_bad_upgrade_is_answered_and_hurts_nobody(
    request_head: bytes, status: int, line: str | None
) -> None:
    async with bystander(*([line] if line else [])) as address, await connect(address) as stream:
        await stream.send_all(request_head)
        await stream.send_eof()
        assert (await receive_all(stream)).startswith(b"HTTP/1.1 %d " % status)


async def test_a_connection_without_a_request_is_only_a_debug_line() -> None:
    async with watch_logs() as log, bystander() as address, await connect(address):
        pass
    (line,) = [one for one in log.lines(level=logging.DEBUG) if "without a request" in one]
    assert line not in log.lines()


# ---- WebSocket


@pytest.mark.parametrize(
    ("data", "line"),
    rows(
        (frame(BINARY, b"SSH-"), "a client must mask its frames"),
        (frame(TEXT, b"SSH-", key=KEY), "a text message"),
        (frame(BINARY, b"", key=KEY, claims=512 * 1024 + 1), "a message of over 524288 bytes"),
        (frame(BINARY, b"", key=KEY, claims=2**30), "a message of over 524288 bytes"),
        (frame(BINARY, b"", key=KEY, claims=2**63), "not in its shortest form"),
        (frame(BINARY, b"x", key=KEY, form=16), "not in its shortest form"),
        (frame(BINARY, b"x", key=KEY, reserved=4), "a reserved bit"),
        (frame(11, b"x", key=KEY), "a reserved bit or opcode"),
        (frame(CONTINUATION, b"x", key=KEY), "a continuation of nothing"),
        (frame(PING, b"x" * 126, key=KEY), "a control frame that is long"),
        (
            b"".join(
                frame(BINARY if i == 0 else CONTINUATION, bytes(65536), key=KEY, fin=False)
                for i in range(9)
            ),
            "a message of over 524288 bytes|not an SSH version|over 255 bytes",
        ),
    ),
)
async def test_a_wrong_frame_before_the_login_ends_its_connection(data: bytes, line: str) -> None:
    async with bystander(NOT_OPEN + f".*({line})") as address, peer_of(address, "upgraded") as peer:
        await peer.send_raw(data)
        assert await peer.gone()


@pytest.mark.parametrize("payload", [b"", b"\x03", b"\x03\xe8\xff", b"\xff\xff"])
async def test_a_close_frame_with_any_payload_ends_its_connection(payload: bytes) -> None:
    async with bystander(NOT_OPEN) as address, peer_of(address, "upgraded") as peer:
        await peer.send_raw(frame(CLOSE, payload, key=KEY))
        assert await peer.gone()


# ---- SSH before the login


@pytest.mark.parametrize(
    ("data", "line"),
    rows(
        (b"S" * 300, "an SSH version line of over 255 bytes"),
        (b"SSH-" + b"x" * 100_000, "an SSH version line of over 255 bytes"),
        (b"SSH-2.0-\0\r\n", "not an SSH version line: SSH-2.0-.x00"),
        (b"hello\r\nSSH-chisel-v3-client\r\n", "not an SSH version line: hello"),
        (b"ssh-\x1b[2J\r\n", r"not an SSH version line: ssh-\\x1b\[2J"),
        (b"SSH-\xff\r\n", r"not an SSH version line"),
        (b"\r\n", "not an SSH version line: "),
    ),
)
async def test_a_wrong_version_line_ends_its_connection(data: bytes, line: str) -> None:
    async with bystander(NOT_OPEN + line) as address, peer_of(address, "upgraded") as peer:
        await peer.send_bytes(data)
        assert await peer.gone()


@pytest.mark.parametrize("length", [0, 1, 11, 13, 2**16, 2**31, 2**32 - 4])
@pytest.mark.parametrize("stage", ["upgraded", "keyed", "in"])
async def test_an_impossible_packet_length_ends_its_connection(stage: str, length: int) -> None:
    wrong = length if (stage, length) != ("in", 2**16) else 2**18 + 16
    expected = NOT_OPEN + f"impossible SSH packet length {wrong}"
    async with bystander(expected) as address, peer_of(address, stage) as peer:
        if stage == "upgraded":
            await peer.send_bytes(b"SSH-chisel-v3-client\r\n")
        await peer.send_bytes(struct.pack(">I", wrong) + bytes(100))
        assert await peer.gone()


async def test_a_flipped_bit_in_a_packet_ends_its_connection() -> None:
    async with (
        bystander(NOT_OPEN + "an SSH packet failed its integrity check") as address,
        peer_of(address, "in") as peer,
    ):
        peer.engine.packetizer.send_payload(bytes([messages.IGNORE]) + string(b"x"))
        peer.engine.packetizer.out[9] ^= 1
        await peer.flush()
        assert await peer.gone()


@pytest.mark.parametrize(
    "message",
    [
        global_request(b"config", b"{}", want_reply=True),
        channel_open(b"chisel", 0, WINDOW, MAX_PACKET, b"127.0.0.1:1"),
        about_channel(messages.CHANNEL_CLOSE, 0),
        about_channel(messages.CHANNEL_DATA, 0) + string(b"x"),
        bytes([messages.REQUEST_SUCCESS]),
        bytes([127]),
    ],
)
async def test_a_message_of_the_connection_protocol_before_the_login_ends_it(
    message: bytes,
) -> None:
    expected = NOT_OPEN + f"SSH message {message[0]} before the login"
    async with bystander(expected) as address, peer_of(address, "keyed") as peer:
        await peer.send(message)
        assert await peer.gone()


@pytest.mark.parametrize(
    ("message", "line"),
    rows(
        (b"\x05" + string(b"ssh-connection"), "no such SSH service: ssh-connection"),
        (b"\x05", "SSH message 5 is cut short"),
        (b"\x32" + string(b"a") + string(b"ssh-connection"), "SSH message 50 is cut short"),
        (b"\x32" + string(b"a") + string(b"\x1b[1m") + string(b"none"), r"service: \\x1b\[1m"),
        (b"\x32" + string(b"\xff") * 3, "SSH message 50 holds invalid UTF-8"),
        (b"\x32" + struct.pack(">I", 2**32 - 1), "SSH message 50 is cut short"),
        (b"\x15", "SSH message 21 out of turn"),
        (b"\x1e" + string(bytes(32)), "SSH message 30 out of turn"),
        (b"\x14" + bytes(16), "SSH message 20 is cut short"),
        (b"\x14" + bytes(16 + 40 + 5), "key exchange failed"),
    ),
)
async def test_a_malformed_login_message_ends_its_connection(message: bytes, line: str) -> None:
    async with bystander(NOT_OPEN + ".*" + line) as address, peer_of(address, "keyed") as peer:
        await peer.send(message)
        assert await peer.gone()


async def test_three_wrong_passwords_end_the_connection_and_are_logged_on_one_line_each() -> None:
    user = "eve\x1b[2J\n2026-01-01 server: all is well"
    shown = r"'eve\\x1b\[2J\\n2026-01-01 server: all is well'"
    failed = f"Authentication failed from 127.0.0.1 for user {shown}$"
    lines = (failed, failed, failed, NOT_OPEN + "3 wrong passwords")
    login = b"\x32" + b"".join(map(string, (user.encode(), b"ssh-connection", b"password")))
    async with (
        bystander(*lines, password="right", max_auth_failures=0) as address,
        peer_of(address, "keyed") as peer,
    ):
        await peer.send(b"\x05" + string(b"ssh-userauth"))
        # Two at once, so that the second one waits for the verdict on the first.
        tries = [login + b"\0" + string(b"wrong %d" % number) for number in range(3)]
        await peer.send(*tries[:2])
        await trio.testing.wait_all_tasks_blocked(0.005)
        await peer.send(tries[2])
        assert await peer.gone()


async def test_a_right_password_after_two_wrong_ones_lets_in() -> None:
    failed = "Authentication failed from 127.0.0.1 for user ''"
    async with (
        bystander(failed, failed, "closed after", password="right", max_auth_failures=0) as address,
        peer_of(address, "keyed") as peer,
    ):
        await peer.send(b"\x05" + string(b"ssh-userauth"))
        for password in (b"a", b"", b"right"):
            await peer.send(
                b"\x32"
                + string(b"")
                + string(b"ssh-connection")
                + string(b"password")
                + b"\0"
                + string(password)
            )
        peer.engine._begin_connection()
        assert await peer.send_config() == bytes([messages.REQUEST_SUCCESS])
