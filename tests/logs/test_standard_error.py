"""Standard error as a stream that never waits, and the log on it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio import logs
from cotun_trio.logs import standard_error
from cotun_trio.logs.standard_error import LineStream
from tests.support import pipes
from tests.support.log_watch import restored_logging
from tests.support.programs import ended
from tests.support.targets import LOOPBACK, background, echoes
from tests.support.tunnel import echo_tunnel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.support.pipes import Unread


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Undo what `configure` does to the process."""
    with restored_logging():
        yield


@contextlib.contextmanager
def line_stream(end: Unread) -> Iterator[LineStream]:
    """Give a stream that never waits to where another one leads."""
    made = standard_error.line_stream(end.stream)
    assert made is not None
    with made as stream:
        yield stream


def fill(stream: LineStream) -> None:
    """Write until there is no room, neither there nor in memory."""
    while not stream.output.dropped:
        stream.write("x" * 4000 + "\n")


async def read_until(end: Unread, text: str) -> str:
    """Read until `text` comes; return everything."""
    got = ""
    while text not in got:
        await trio.lowlevel.wait_readable(end.descriptor)
        got += end.read()
    return got


# ---- as a stream


def test_pieces_of_a_line_are_written_together() -> None:
    with pipes.pipe() as end, line_stream(end) as stream:
        print("one", "two", 3, end="", file=stream)
        assert end.lines() == []
        print("", 4, sep=", ", file=stream)
        assert end.lines() == ["one two 3, 4"]
        print("Password: ", end="", flush=True, file=stream)
        assert end.read() == "Password: "


def test_the_stream_describes_itself_as_the_original_does() -> None:
    with pipes.terminal() as end, line_stream(end) as stream:
        assert stream.isatty()
        assert stream.fileno() == end.stream.fileno()
        assert stream.encoding == end.stream.encoding
        assert stream.writable()
        assert not stream.readable()


def test_what_cannot_be_encoded_is_shown_escaped() -> None:
    with pipes.pipe() as end:
        end.stream.reconfigure(encoding="ascii")  # type: ignore[attr-defined]
        with line_stream(end) as stream:
            print("für \udc80", file=stream)
        assert end.lines() == ["f\\xfcr \\udc80"]


def test_whatever_python_says_there_does_not_wait_either(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pipes.pipe() as end:
        monkeypatch.setattr(sys, "stderr", end.stream)
        monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
        logs.never_wait()
        stream = sys.stderr
        assert isinstance(stream, LineStream)
        logs.never_wait()
        assert sys.stderr is stream  # once is enough
        fill(stream)
        before = stream.output.dropped
        print("a last word", file=sys.stderr)
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        sys.__excepthook__(*exception())
        assert stream.output.dropped > before + 5
        stream.close()


def exception() -> tuple[type[BaseException], BaseException, None]:
    """Return what an exception hook gets."""
    return ValueError, ValueError("why"), None


def test_without_a_descriptor_standard_error_stays_what_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sys.stderr
    logs.never_wait()
    assert sys.stderr is before
    monkeypatch.setattr(sys, "stderr", None)
    logs.never_wait()
    logs.configure(verbose=False)
    logs.get_logger("server").info("to nobody")
    assert sys.stderr is None


# ---- the log


@pytest.mark.parametrize("kind", [pipes.pipe, pipes.journal])
@pytest.mark.parametrize("json_lines", [False, True])
def test_the_count_is_a_line_like_all_others(
    kind: Callable[[], AbstractContextManager[Unread]], json_lines: bool
) -> None:
    with kind() as end, line_stream(end) as stream:
        status = os.fstat(stream.fileno())
        journal = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        environment = journal if kind is pipes.journal else {}
        logs.configure(
            verbose=False,
            json_lines=json_lines,
            stream=end.stream,
            environment=environment,
            process={"worker": 2},
        )
        log = logs.get_logger("server")
        for _ in range(2000):
            log.info("%s", "x" * 200)
        said = ""
        while "dropped" not in said:
            said += end.read()
            log.info("another")
        (line,) = [line for line in said.splitlines() if "dropped" in line]
        if kind is pipes.journal:
            assert line.startswith("<4>")
            line = line.removeprefix("<4>")
        if json_lines:
            found = json.loads(line)
            assert found["level"] == "warning"
            assert found["side"] == "log"
            assert found["worker"] == 2
            line = found["message"]
        assert line.endswith("lines were dropped here: nobody read them")


def test_a_long_line_of_json_is_still_json() -> None:
    with pipes.pipe() as end:
        logs.configure(verbose=False, json_lines=True, stream=end.stream)
        log = logs.get_logger("server").within(user="\\u202e" * 100, target="\x00\\" * 1500)
        for text in ("x" * 10_000, "\\" * 10_000, "\U0001f600" * 3000, "\n" * 5000):
            log.info("begin %s end", text)
            (line,) = end.lines()
            found = json.loads(line)
            assert found["message"].startswith("begin ")
            assert found["message"].endswith(" end")
            assert "…" in found["message"]
            assert len(line.encode()) < 4096


def test_of_a_long_traceback_in_json_the_end_is_there() -> None:
    with pipes.pipe() as end:
        logs.configure(verbose=False, json_lines=True, stream=end.stream)
        try:
            raise ExceptionGroup("x" * 5000, [ZeroDivisionError("why")])
        except ExceptionGroup:
            logs.get_logger("server").error("what happened", exc_info=True)
        (line,) = end.lines()
        found = json.loads(line)
        assert found["message"] == "what happened"
        assert found["exception"].startswith("    + Exception Group Traceback")
        assert "ZeroDivisionError: why" in found["exception"][-100:]


async def test_a_tunnel_goes_on_while_nobody_reads_its_log() -> None:
    with pipes.pipe() as end, line_stream(end) as stream:
        logs.configure(verbose=True, stream=stream)  # type: ignore[arg-type]
        fill(stream)
        async with background() as nursery, echo_tunnel() as both:
            nursery.start_soon(stream.output.run)
            before = stream.output.dropped
            for _ in range(10):
                async with await both.connect() as connection:
                    assert await echoes(connection)
            assert stream.output.dropped >= before + 20
            assert "lines were dropped here" in await read_until(end, "dropped")


# ---- processes


TALKER = """
import sys, trio
from cotun_trio import logs
from cotun_trio.logs import standard_error

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(logs.write_what_waits)
        for number in range(5000):
            logs.get_logger("talker").info("line %d of 5000 %s", number, "x" * (number % 3000))
            await trio.lowlevel.checkpoint()
        print("said", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()

logs.never_wait()
logs.configure(verbose=False, process={"worker": int(sys.argv[1])})
try:
    trio.run(main)
finally:
    logs.wait_for_reader()
raise SystemExit("a last word")
"""


@pytest.mark.slow
@pytest.mark.parametrize("refused", [False, True])
def test_processes_that_share_a_pipe_neither_wait_nor_mix_their_lines(refused: bool) -> None:
    refuse = """
import os
open_ = os.open
def refuse(path, *more, **options):
    if str(path).startswith("/proc/self/fd/"):
        raise PermissionError(path)
    return open_(path, *more, **options)
os.open = refuse
"""
    with pipes.pipe() as end, contextlib.ExitStack() as stack:
        talkers = [
            stack.enter_context(
                ended(
                    subprocess.Popen(
                        [sys.executable, "-c", refuse * refused + TALKER, str(number)],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=end.stream,
                    )
                )
            )
            for number in range(2)
        ]
        for talker in talkers:  # nobody has read anything
            assert talker.stdout is not None
            assert talker.stdout.readline() == b"said\n"
        got: list[str] = []

        def read() -> None:
            os.set_blocking(end.descriptor, True)
            with os.fdopen(os.dup(end.descriptor)) as stream:
                got.extend(stream)

        reader = threading.Thread(target=read)
        reader.start()
        for talker in talkers:
            talker.communicate(timeout=60)
            assert talker.returncode == 1
        end.stream.close()
        reader.join()
    for number in range(2):
        mine = [line for line in got if f"worker={number}: " in line]
        assert mine[0].rstrip().endswith(f"worker={number}: line 0 of 5000")
        (count,) = [line for line in mine if "dropped" in line]
        kept = len(mine) - 1
        assert f"{5000 - kept} lines were dropped here" in count
        for index, line in enumerate(mine[:-1]):
            said = f"line {index} of 5000 {'x' * (index % 3000)}"
            assert line.rstrip("\n").endswith(said)
    assert got.count("a last word\n") == 2


@pytest.mark.slow
def test_a_process_ends_though_nobody_reads_its_last_words() -> None:
    with pipes.pipe() as end:
        process = subprocess.Popen(
            [sys.executable, "-c", TALKER, "1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=end.stream,
        )
        with ended(process) as talker:
            talker.communicate(timeout=60)
        assert talker.returncode == 1
        assert end.read().endswith("\n")


@pytest.mark.slow
def test_a_worker_that_cannot_even_begin_ends_though_nobody_reads_why() -> None:
    with pipes.pipe() as end:
        fill_up(end)
        command = [sys.executable, "-m", "cotun_trio.workers", "no descriptor"]
        assert subprocess.run(command, stderr=end.stream, timeout=60, check=False).returncode == 1


def fill_up(end: Unread) -> None:
    """Leave no room in a pipe."""
    os.set_blocking(end.stream.fileno(), False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(end.stream.fileno(), b"\n")
    os.set_blocking(end.stream.fileno(), True)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_whose_log_nobody_reads_answers_and_ends_as_others_do(
    workers: str, tmp_path: Path
) -> None:
    address = str(tmp_path / "notify")
    with pipes.pipe() as end, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(60)
        fill_up(end)
        command = [sys.executable, "-m", "cotun_trio", "server", "--host", LOOPBACK, "--port", "0"]
        with subprocess.Popen(
            [*command, "-v", "--workers", workers],
            env={**os.environ, "NOTIFY_SOCKET": address},
            stderr=end.stream,
        ) as server:
            try:
                while b"Listening on" not in (state := manager.recv(4096)):
                    pass
                port = int(
                    state.partition(b"Listening on")[2].partition(b";")[0].rpartition(b":")[2]
                )
                for _ in range(100):
                    with socket.create_connection((LOOPBACK, port), 60) as client:
                        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
                said = ""
                while said.count("GET /health") < 100:  # as soon as somebody does read
                    assert select.select([end.descriptor], [], [], 60)[0]
                    said += end.read()
                fill_up(end)
                server.terminate()
                assert server.wait(60) == 0
            finally:
                server.kill()
