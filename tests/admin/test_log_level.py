"""The level of the log, asked for and set, and the body of the request that sets it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from typing import TYPE_CHECKING

import pytest
import trio

from cotun_trio import logs
from cotun_trio.admin.bodies import BODY_TIMEOUT, MAX_BODY
from cotun_trio.logs.events import record_events
from tests.support.admin import ask, send
from tests.support.log_watch import restored_logging
from tests.support.tunnel import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEVEL = "/api/v1/log-level"


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"unix:{tmp_path / 'admin.sock'}"


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    """Return the text of the program's log, as a daemon has it."""
    with restored_logging(), contextlib.closing(io.StringIO()) as stream:
        logs.configure(verbose=False, stream=stream)
        yield stream


async def put(place: str, body: bytes) -> tuple[int, object]:
    """Send a body; return the status and the JSON of the answer."""
    answer = await ask(place, LEVEL, method="PUT", body=body)
    return answer.status, answer.json


async def test_a_program_logs_more_and_then_less(place: str, output: io.StringIO) -> None:
    async with running_server(admin_listen=place) as server:
        assert (await ask(place, LEVEL)).json == {"level": "info"}
        for level in ("debug", "warning", "trace", "trace"):
            assert await put(place, json.dumps({"level": level}).encode()) == (
                200,
                {"level": level},
            )
            assert (await ask(place, LEVEL)).json == {"level": level}
            server.log.debug("a detail at %s", level)
        assert server.log.traces
        text = output.getvalue()
        assert "a detail at debug" in text
        assert "a detail at warning" not in text
        assert text.count("has set the log's level") == 3  # and each of them can be seen
        found = [each.facts for each in record_events().after(0) if each.kind == "log-level"]
        assert found[:2] == [
            {"level": "debug", "before": "info"},
            {"level": "warning", "before": "debug"},
        ]
        assert len(found) == 3


async def test_the_log_of_another_program_is_left_alone(place: str) -> None:
    before = logging.getLogger("cotun").level
    async with running_server(admin_listen=place):
        for answer in (
            await ask(place, LEVEL),
            await ask(place, LEVEL, method="PUT", body=b'{"level": "debug"}'),
        ):
            assert answer.status == 409
            assert "the program that embeds this one" in answer.json["detail"]
    assert logging.getLogger("cotun").level == before


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"info",
        b'"info"',
        b"{}",
        b'{"level": "info", "more": 1}',
        b'{"level": "loud"}',
        b'{"level": ["info"]}',
        b'{"level": 20}',
        b'{"level": "info"',
        b'{"level": "\xff"}',
        b"[" * 4000,
        b"9" * 4090,
        b'{"self": "info"}',
    ],
)
async def test_another_body_is_an_error(place: str, body: bytes, output: io.StringIO) -> None:
    async with running_server(admin_listen=place):
        answer = await ask(place, LEVEL, method="PUT", body=body)
        assert answer.status == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert "level" in answer.json["detail"]
        assert logs.level() == "info"


async def test_a_body_is_bounded(place: str, output: io.StringIO) -> None:
    async with running_server(admin_listen=place):
        most = b'{"level": "debug"}'.ljust(MAX_BODY)
        assert (await put(place, most))[0] == 200
        assert (await put(place, most + b" "))[0] == 413


async def test_a_body_has_to_say_its_length(place: str, output: io.StringIO) -> None:
    head = f"PUT {LEVEL} HTTP/1.1\r\nHost: x\r\n".encode()
    chunked = b'Transfer-Encoding: chunked\r\n\r\n12\r\n{"level": "debug"}\r\n0\r\n\r\n'
    async with running_server(admin_listen=place):
        for more in (chunked, b"\r\n"):
            assert b" 411 " in (await send(place, head + more)).partition(b"\r\n")[0]


async def test_a_client_that_waits_for_leave_to_send_gets_it(
    place: str, output: io.StringIO
) -> None:
    body = b'{"level": "debug"}'
    head = f"PUT {LEVEL} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    async with (
        running_server(admin_listen=place),
        await trio.open_unix_socket(place.removeprefix("unix:")) as stream,
    ):
        await stream.send_all(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 ")
        await stream.send_all(body)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")


async def test_a_body_that_does_not_come_is_not_waited_for(
    place: str, output: io.StringIO, autojump_with_sockets: trio.testing.MockClock
) -> None:
    head = f"PUT {LEVEL} HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n".encode()
    async with running_server(admin_listen=place):
        began = trio.current_time()
        answer = await send(place, head + b'{"level')
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert BODY_TIMEOUT <= trio.current_time() - began < 3 * BODY_TIMEOUT


async def test_a_body_that_ends_too_early_is_an_error(place: str, output: io.StringIO) -> None:
    head = f"PUT {LEVEL} HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n".encode()
    async with (
        running_server(admin_listen=place),
        await trio.open_unix_socket(place.removeprefix("unix:")) as stream,
    ):
        await stream.send_all(head + b'{"level')
        await stream.send_eof()
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 400 ")
