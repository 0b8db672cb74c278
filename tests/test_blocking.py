"""The client for programs without Trio: what it returns and raises, and that it never hangs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from cotun_trio import ConnectionLost, CotunError, Refused, ServerSettings, UsageError, open_server
from cotun_trio.blocking import open_client
from tests.support.programs import ended
from tests.support.targets import LOOPBACK, echo, listening, refused_address, split_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cotun_trio.blocking import BlockingClient

PATIENCE = 20.0
"""Seconds after which a program hangs: many times what it takes, on a busy machine."""


class Place:
    """A server with an echo behind it."""

    def __init__(self) -> None:
        self.url = self.target = ""
        self.began = threading.Event()

    def run(self) -> None:
        """Serve until `stop`."""
        trio.run(self._main)

    async def _main(self) -> None:
        self._token, self._stop = trio.lowlevel.current_trio_token(), trio.Event()
        settings = ServerSettings(host=LOOPBACK, port=0)
        async with listening(echo) as self.target, open_server(settings) as server:
            self.url = f"http://{server.addresses[0]}"
            self.began.set()
            await self._stop.wait()

    def stop(self) -> None:
        """End."""
        self._token.run_sync_soon(self._stop.set)


@contextmanager
def serving() -> Iterator[Place]:
    """Run a server in a thread."""
    place = Place()
    thread = threading.Thread(target=place.run)
    thread.start()
    place.began.wait(PATIENCE)
    try:
        yield place
    finally:
        place.stop()
        thread.join()


def threads() -> list[threading.Thread]:
    """Return the threads of clients that live."""
    return [thread for thread in threading.enumerate() if thread.name == "cotun-trio"]


def test_it_forwards_counts_and_leaves_no_thread() -> None:
    with serving() as place:
        with open_client(place.url) as tunnel:
            assert len(threads()) == 1
            forward = tunnel.forward(f"{LOOPBACK}:0:{place.target}")
            with socket.create_connection(split_address(forward.address), PATIENCE) as sock:
                sock.sendall(b"hello")
                assert sock.recv(5) == b"hello"
            assert forward.stats().total == 1
            forward.close()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(split_address(forward.address))
        assert not threads()
        with pytest.raises(ConnectionLost, match="closed"):
            tunnel.forward("0:x:1")
        tunnel.close()


def test_errors_are_raised_where_they_were_called() -> None:
    with pytest.raises(UsageError, match="URL"):
        open_client("ftp://host")
    with pytest.raises(ConnectionLost, match="no tunnel in 100ms"):
        open_client(f"http://{refused_address()}", connect_timeout=0.1)
    with serving() as place, open_client(place.url) as tunnel:
        with pytest.raises(UsageError, match="not a port"):
            tunnel.forward("0:x:y")
        with pytest.raises(Refused, match="Reverse"):
            tunnel.forward("R:0:x:1")
    assert not threads()


def test_a_client_that_is_forgotten_ends() -> None:
    with serving() as place:
        tunnel: BlockingClient | None = open_client(place.url)
        (thread,) = threads()
        assert tunnel is not None
        tunnel = None
        thread.join(PATIENCE)
        assert not threads()


def test_a_forked_child_has_no_part_in_it() -> None:
    with serving() as place, open_client(place.url) as tunnel:
        child = os.fork()
        if not child:
            status = 1
            try:
                tunnel.forward("0:x:1")
            except CotunError:
                tunnel.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        tunnel.forward(f"{LOOPBACK}:0:x:1")


ENDS = {
    "forgets to close": "",
    "is left by an exception": "raise KeyError",
    "is left by sys.exit": "import sys; sys.exit(1)",
    "is left in the block": "tunnel.__enter__()",
    "has threads of its own": """
        import threading
        threading.Thread(target=tunnel.forward, args=("127.0.0.1:0:x:2",)).start()
    """,
    "has a call under way": """
        import contextlib
        import threading
        from cotun_trio.api import core
        from cotun_trio.errors import ConnectionLost
        import trio
        called = threading.Event()
        async def hang(*_):
            called.set()
            await trio.sleep_forever()
        core.EmbeddedClient.add = hang
        def call():
            with contextlib.suppress(ConnectionLost):  # if it hears of the end before its own
                tunnel.forward("1")
        threading.Thread(target=call, daemon=True).start()
        called.wait()
    """,
    "forks": """
        import os
        if not (child := os.fork()):
            raise SystemExit(3)
        assert os.waitpid(child, 0)[1] == 3 << 8
    """,
}


def start(url: str, then: str) -> subprocess.Popen[str]:
    """Start a program that opens a client, and then does something."""
    program = f"""
from cotun_trio.blocking import open_client
tunnel = open_client({url!r})
tunnel.forward("127.0.0.1:0:x:1")
print("open", flush=True)
{textwrap.dedent(then)}
"""
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("then", ENDS.values(), ids=ENDS)
def test_a_program_ends_that(then: str) -> None:
    with serving() as place:
        with ended(start(place.url, then)) as program:
            out, err = program.communicate(timeout=PATIENCE)
        assert out == "open\n"
        assert "cotun" not in err.replace("cotun_trio/blocking", "")


@pytest.mark.slow
def test_a_program_ends_that_is_interrupted_in_a_call() -> None:
    hang = ENDS["has a call under way"].partition("threading.Thread(")[0]
    with serving() as place:
        then = f"{textwrap.dedent(hang)}\nprint('calling', flush=True)\ntunnel.forward('1')"
        with ended(start(place.url, then)) as program:
            assert program.stdout is not None
            assert [program.stdout.readline() for _ in range(2)] == ["open\n", "calling\n"]
            program.send_signal(signal.SIGINT)
            _, err = program.communicate(timeout=PATIENCE)
        assert "KeyboardInterrupt" in err
        assert program.returncode == -signal.SIGINT
