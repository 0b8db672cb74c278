"""The pid file: ours alone, never over anything, gone in the end."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from typing import TYPE_CHECKING, NoReturn

import pytest

from cotun_trio.errors import UsageError
from cotun_trio.system.pidfile import pid_file
from tests.support.programs import PATIENCE, ended

if TYPE_CHECKING:
    from pathlib import Path

INIT = 1
"""A process that always lives."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give where the file shall be."""
    return tmp_path / "cotun.pid"


@pytest.fixture(scope="session")
def dead() -> int:
    """Give the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-S", "-E", "-c", ""])
    process.wait()
    return process.pid


def refused(path: Path) -> str:
    """Return the error that holding the file leads to."""
    with pytest.raises(UsageError) as caught, pid_file(path):
        pytest.fail("it was held")
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_the_file_holds_our_number_and_is_gone_in_the_end(path: Path) -> None:
    with pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"
        assert path.stat().st_mode & 0o022 == 0
    assert not path.exists()


def test_the_file_is_gone_after_an_error_too(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), pid_file(path):
        raise ZeroDivisionError
    assert not path.exists()


def test_a_file_that_somebody_removed_is_no_error(path: Path) -> None:
    with pid_file(path):
        path.unlink()
    assert not path.exists()


@pytest.mark.parametrize("content", [f"{INIT}\n", "no pid file\n"])
def test_a_file_that_is_somebody_elses_by_now_is_left_alone(path: Path, content: str) -> None:
    with pid_file(path):
        path.unlink()
        path.write_text(content)
    assert path.read_text() == content


def test_a_file_that_a_process_holds_is_an_error_that_names_it_and_stays(path: Path) -> None:
    with pid_file(path):
        assert f"the process {os.getpid()} of" in refused(path)
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_a_file_that_is_held_and_empty_is_an_error_too(path: Path) -> None:
    path.touch()
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "another process" in refused(path)
    assert path.exists()


def test_a_number_that_is_some_other_programs_by_now_holds_nothing(path: Path) -> None:
    path.write_text(f"{INIT}\n")  # as after a power cut
    with pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_a_file_that_a_power_cut_has_emptied_is_replaced(path: Path) -> None:
    path.touch()
    with pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.slow
def test_the_hold_ends_with_the_process_however_that_ends(path: Path) -> None:
    hold = (
        "import sys; from pathlib import Path; from cotun_trio.system.pidfile import pid_file\n"
        "with pid_file(Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with ended(holder) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert f"the process {process.pid} of" in refused(path)
        process.kill()
    assert path.read_text() == f"{process.pid}\n"
    with pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_child_does_not_hold_the_file(path: Path) -> None:
    with pid_file(path):
        child = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", "input()"], stdin=subprocess.PIPE
        )
    with ended(child), pid_file(path):
        assert child.poll() is None
        child.communicate(b"\n", timeout=PATIENCE)


@pytest.mark.parametrize("form", ["{}\n", "{}", "  {}  \n\n"])
def test_the_file_of_a_process_that_has_ended_is_replaced(path: Path, dead: int, form: str) -> None:
    path.write_text(form.format(dead))
    with pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_a_number_beyond_all_processes_is_replaced(path: Path) -> None:
    path.write_text("9999999999\n")
    with pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_file_with_our_own_number_is_from_an_earlier_life(path: Path) -> None:
    # In a container the numbers begin again with each start, and are the same each time.
    path.write_text(f"{os.getpid()}\n")
    with pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


@pytest.mark.parametrize(
    "content",
    [
        "\n",
        "0\n",
        "-1\n",
        "01\n",
        "1 2\n",
        "1\n2\n",
        "0x10",
        "name",
        "٣",
        "²",
        "\0",
        "9" * 11,
        "9" * 5000,
    ],
    ids=ascii,
)
def test_what_is_no_pid_file_is_left_alone(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")
    assert "is not a pid file" in refused(path)
    assert path.read_text(encoding="utf-8") == content


def test_bytes_that_are_no_text_are_left_alone(path: Path) -> None:
    path.write_bytes(b"\xff\xfe1\n")
    assert "is not a pid file" in refused(path)
    assert path.read_bytes() == b"\xff\xfe1\n"


def test_nothing_is_written_through_a_symbolic_link(path: Path, dead: int) -> None:
    precious = path.with_name("precious")
    precious.write_text(f"{dead}\n")
    path.symlink_to(precious)
    with pid_file(path):
        assert not path.is_symlink()
        assert precious.read_text() == f"{dead}\n"
    assert precious.read_text() == f"{dead}\n"


def test_a_link_to_something_else_is_an_error(path: Path) -> None:
    precious = path.with_name("precious")
    precious.write_text("precious")
    path.symlink_to(precious)
    refused(path)
    assert precious.read_text() == "precious"
    assert path.is_symlink()


def test_a_link_to_nothing_is_an_error_and_nothing_is_made(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))
    refused(path)
    assert not path.with_name("nothing").exists()


def test_a_directory_in_its_place_is_an_error(path: Path) -> None:
    path.mkdir()
    refused(path)
    assert path.is_dir()


def test_a_place_that_does_not_exist_is_an_error(path: Path) -> None:
    assert "No such file" in refused(path.parent / "nowhere" / "cotun.pid")


def test_a_fifo_in_the_place_of_the_pid_file_is_left_alone(path: Path) -> None:
    os.mkfifo(path)
    assert "is not a pid file" in refused(path)
    assert path.is_fifo()


def test_a_file_that_cannot_be_filled_is_not_left_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int, _data: bytes) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        assert "No space left" in refused(path)
    assert not path.exists()


def test_who_is_slower_with_a_stale_file_leaves_what_is_there_by_now(
    path: Path, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text(f"{dead}\n")
    flock, winner = fcntl.flock, path.with_name("winner").open("w+")

    def slow(descriptor: int, operation: int) -> None:
        if path.stat().st_size and path.read_text() == f"{dead}\n":
            # It has been read, and now somebody else is faster.
            path.unlink()
            winner.write("12345\n")
            winner.flush()
            flock(winner, fcntl.LOCK_EX)
            path.hardlink_to(winner.name)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", slow)
    with winner:
        assert "the process 12345 of" in refused(path)
    assert path.read_text() == "12345\n"


def test_who_finds_a_file_that_is_being_made_may_have_it_and_the_maker_sees_that(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock
    made: list[int] = []

    def overtaken(descriptor: int, operation: int) -> None:
        if not made:  # between making it and locking it
            made.append(descriptor)
            path.unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", overtaken)
    with pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"
        assert "is running already" in refused(path)


def test_of_two_that_find_a_stale_file_one_has_it(
    path: Path, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text(f"{dead}\n")
    unlink = type(path).unlink

    def overtaken(self: Path, *, missing_ok: bool = False) -> None:
        unlink(self, missing_ok=missing_ok)
        self.write_text(f"{INIT}\n")  # somebody was faster

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "unlink", overtaken)
        refused(path)
    assert path.read_text() == f"{INIT}\n"
