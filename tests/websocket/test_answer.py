"""The head of an answer to the upgrade, with the lines of a list in one."""

from __future__ import annotations

import h11
import pytest

from cotun_trio.websocket.answer import one_line_each

LINE = b"HTTP/1.1 101 Switching Protocols\r\n"


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        (["Connection: Upgrade", "Connection: keep-alive"], ["Connection: upgrade, keep-alive"]),
        (["Connection: x", "CONNECTION: Upgrade"], ["Connection: x, upgrade"]),
        (["Connection: Upgrade", "Connection:"], ["Connection: upgrade"]),
        (["Upgrade: WebSocket", "Upgrade: websocket"], ["Upgrade: websocket"]),
        (["Upgrade: h2c", "Upgrade: websocket"], ["Upgrade: h2c, websocket"]),
        (["Sec-WebSocket-Accept: aB="], ["Sec-WebSocket-Accept: aB="]),
        (["Sec-WebSocket-Protocol: a"] * 2, ["Sec-WebSocket-Protocol: a"]),
        (["Sec-WebSocket-Extensions: x; y=1"], ["Sec-WebSocket-Extensions: x; y=1"]),
        (["Server: nginx", "Set-Cookie: a=b"], []),
        ([], []),
    ],
)
def test_a_header_in_several_lines_is_shown_in_one(lines: list[str], shown: list[str]) -> None:
    head, wanted = (
        LINE + "".join(f"{line}\r\n" for line in each).encode() + b"\r\n" for each in (lines, shown)
    )
    assert one_line_each(head) == wanted
    assert one_line_each(head.replace(b"\r\n", b"\n")) == wanted


@pytest.mark.parametrize("lines", [b"no colon\r\n", b"A: b\r\n folded\r\n", b"a : b\r\n"])
def test_what_h11_may_find_fault_with_is_shown_as_it_is(lines: bytes) -> None:
    head = LINE + b"Connection: Upgrade\r\n" + lines + b"\r\n"
    assert one_line_each(head) == head


def test_what_is_shown_is_a_head_to_h11() -> None:
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="GET", target="/", headers=[("Host", "h"), ("Upgrade", "x")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(one_line_each(LINE + b"Connection: a\r\nconnection: b\r\n\r\n"))
    event = parser.next_event()
    assert isinstance(event, h11.InformationalResponse)
    assert list(event.headers) == [(b"connection", b"a, b")]
