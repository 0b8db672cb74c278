"""Unix-domain sockets: whose file it is, and who may connect."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest
import trio.testing

from cotun_trio.errors import DialFailed, UsageError
from cotun_trio.forwards.listener import open_listener
from cotun_trio.net.unix import dial_unix, listen_unix, remove_socket_file
from cotun_trio.protocol.remote import Remote
from tests.support.leaks import nothing_left


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "app.sock")


def leave_stale(path: str) -> None:
    """Leave a socket file that nobody listens on, as a killed process does."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()


async def test_only_our_own_user_may_connect_whatever_the_mask(path: str) -> None:
    mask = os.umask(0)
    try:
        with listen_unix(path):
            assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
            assert os.umask(0) == 0  # and the mask is what it was
    finally:
        os.umask(mask)


async def test_a_stale_socket_file_is_replaced(path: str) -> None:
    leave_stale(path)
    with listen_unix(path), await dial_unix(path, timeout=1) as sock:
        assert sock.getpeername() == path


async def test_a_live_socket_is_refused_and_lives_on(path: str) -> None:
    async with nothing_left():
        with listen_unix(path) as live:
            with pytest.raises(UsageError, match="another process does"):
                listen_unix(path)
            live.accept()[0].close()  # the probe
            (await dial_unix(path, timeout=1)).close()


async def test_a_live_socket_with_a_full_queue_is_not_taken_for_a_stale_one(path: str) -> None:
    with full_listener(path), pytest.raises(UsageError, match="another process does"):
        listen_unix(path)


@pytest.mark.parametrize("kind", ["file", "directory", "link to a file"])
async def test_what_is_no_socket_is_refused_and_left_alone(path: str, kind: str) -> None:
    if kind == "directory":
        Path(path).mkdir()
    elif kind == "file":
        Path(path).write_text("precious")
    else:
        Path(path + ".txt").write_text("precious")
        Path(path).symlink_to(path + ".txt")
    async with nothing_left():
        with pytest.raises(UsageError, match="is no socket"):
            listen_unix(path)
    assert Path(path).is_dir() if kind == "directory" else Path(path).read_text() == "precious"


async def test_a_directory_that_is_not_there_is_named_in_the_error(tmp_path: Path) -> None:
    async with nothing_left():
        with pytest.raises(UsageError, match="nowhere/sock: No such file"):
            listen_unix(f"{tmp_path}/nowhere/sock")


async def test_the_file_is_removed_at_the_end(path: str) -> None:
    listener = await open_listener(Remote.parse(f"unix:{path}:80"))
    assert listener.addresses == [f"unix:{path}"]
    listener.close()
    assert not Path(path).exists()
    listener.close()


async def test_the_socket_of_who_took_over_is_not_removed_at_the_end(path: str) -> None:
    listener = await open_listener(Remote.parse(f"unix:{path}:80"))
    Path(path).unlink()
    with listen_unix(path):
        listener.close()
        assert stat.S_ISSOCK(Path(path).stat().st_mode)


async def test_a_file_that_took_the_place_of_the_socket_is_not_removed_at_the_end(
    path: str,
) -> None:
    listener = await open_listener(Remote.parse(f"unix:{path}:80"))
    Path(path).unlink()
    Path(path).write_text("precious")
    listener.close()
    assert Path(path).read_text() == "precious"


async def test_a_socket_file_that_is_gone_already_is_no_error(path: str) -> None:
    listen_unix(path).close()
    Path(path).unlink()
    remove_socket_file(path)
    assert not Path(path).exists()


def full_listener(path: str) -> socket.socket:
    """Return a listener whose queue takes no more; what is in it stays there."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(0)
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(path)
    return listener


@pytest.mark.parametrize(
    ("make", "number"),
    [
        pytest.param(lambda _: None, errno.ENOENT, id="nothing there"),
        pytest.param(leave_stale, errno.ECONNREFUSED, id="nobody listens"),
        pytest.param(lambda p: Path(p).write_text(""), errno.ECONNREFUSED, id="no socket"),
    ],
)
async def test_a_dial_that_fails_says_why_and_leaves_nothing(
    path: str, make: object, number: int
) -> None:
    assert callable(make)
    make(path)
    async with nothing_left():
        with pytest.raises(DialFailed, match=f"unix:{path}: {os.strerror(number)}") as caught:
            await dial_unix(path, timeout=1)
    assert caught.value.errno == number


async def test_a_dial_waits_for_room_in_a_full_queue(
    path: str, autojump: trio.testing.MockClock
) -> None:
    with full_listener(path) as listener:

        async def make_room() -> None:
            await trio.sleep(3)
            listener.accept()[0].close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(make_room)
            (await dial_unix(path, timeout=10)).close()
        assert 3 <= trio.current_time() < 4


async def test_a_dial_gives_up_on_a_queue_that_stays_full(
    path: str, autojump: trio.testing.MockClock
) -> None:
    with full_listener(path):
        async with nothing_left():
            with pytest.raises(DialFailed, match="no answer in 10 s") as caught:
                await dial_unix(path, timeout=10)
    assert caught.value.errno == errno.ETIMEDOUT


async def test_a_dial_that_is_cancelled_leaves_nothing(
    path: str, autojump: trio.testing.MockClock
) -> None:
    with full_listener(path):
        async with nothing_left():
            with trio.move_on_after(1) as scope:
                await dial_unix(path, timeout=10)
            assert scope.cancelled_caught
