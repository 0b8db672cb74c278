"""What a server answers to an upgrade: what it is, what is said about it, and what wsproto sees."""

from __future__ import annotations

from cotun_trio.protocol.http_answer import (
    MAX_RETRY_AFTER,
    MAX_SSH_LINE,
    advice,
    members,
    read_fields,
    retry_after,
    title,
    what_it_is,
)
from cotun_trio.websocket.answer import one_line_each
from tests.fuzz.oracle import Work

LONGEST = 4096
WORDS = (
    b"HTTP/1.1 101 Switching Protocols\r\n",
    b"HTTP/1.1 401 No\r\n",
    b"SSH-2.0-",
    b"Connection: Upgrade\r\n",
    b"Upgrade: websocket\r\n",
    b"Sec-WebSocket-Accept: ",
    b'WWW-Authenticate: Basic realm="',
    b"Retry-After: ",
    b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
    b"Location: ",
    b"\r\n\r\n",
)


def run(data: bytes) -> None:
    """Read `data` as an answer with any status; its text can be printed, and stays short."""
    with Work(at_most=60_000 + 400 * len(data)):
        whole = what_it_is(data)
        fields = read_fields(data)
        statuses = (200, 302, 400, 401, 403, 404, 407, 429, 503)
        said = [advice(status, fields, data) for status in statuses]
        said.append(title(data))
        shown = one_line_each(data)
    for text in (*said, whole or ""):
        assert text.isprintable()
        assert len(text) < 10_000
    if whole is None and len(data) >= MAX_SSH_LINE:
        assert data.startswith((b"HTTP/", b"SSH-"))
    seconds = retry_after(503, fields)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER
    if shown != data:
        again = read_fields(shown)
        assert len({name for name, _ in again}) == len(again)
        assert {name for name, _ in again} <= {name for name, _ in fields}
        for name in (b"sec-websocket-accept", b"sec-websocket-extensions"):
            assert members(again, name) == list(dict.fromkeys(members(fields, name)))
