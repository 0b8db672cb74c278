"""`cotun_trio.system.watch`: every way in which a file changes is noticed, and nothing else."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from cotun_trio.errors import UsageError
from cotun_trio.system import watch as watch_module
from cotun_trio.system.watch import survey, watch_files
from tests.support.log_watch import watch_logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.slow  # an event is looked at after a tenth of a second


class Watch:
    """How often a change was noticed, and what a file had in it then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[str | None] = []
        self._news = trio.Event()

    async def changed(self) -> None:
        try:
            self.seen.append(self.path.read_text())
        except OSError:
            self.seen.append(None)
        news, self._news = self._news, trio.Event()
        news.set()

    async def sees(self, content: str | None) -> None:
        """Wait until the file has been looked at when it held `content`."""
        with trio.fail_after(10):
            while self.seen[-1] != content:
                await self._news.wait()


@contextlib.asynccontextmanager
async def watching(path: Path) -> AsyncIterator[Watch]:
    watch = Watch(path)
    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda task_status: watch_files([path], watch.changed, task_status=task_status)
        )
        yield watch
        nursery.cancel_scope.cancel()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    directory = tmp_path / "etc"
    directory.mkdir()
    path = directory / "users.json"
    path.write_text("old")
    return path


def write_in_place(path: Path) -> None:
    with path.open("r+") as file:
        file.write("new")


def truncate_then_write(path: Path) -> None:
    os.truncate(path, 0)
    path.write_text("new")


def rename_over(path: Path) -> None:
    other = path.with_name(".users.json.swp")
    other.write_text("new")
    other.rename(path)


def delete_and_make_anew(path: Path) -> None:
    path.unlink()
    path.write_text("new")


def replace_the_directory(path: Path) -> None:
    other = path.parent.with_name("etc.new")
    other.mkdir()
    (other / path.name).write_text("new")
    path.parent.rename(path.parent.with_name("etc.old"))
    other.rename(path.parent)


def delete_the_directory_and_make_it_anew(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    path.write_text("new")


WAYS = [
    write_in_place,
    truncate_then_write,
    rename_over,
    delete_and_make_anew,
    replace_the_directory,
    delete_the_directory_and_make_it_anew,
]


@pytest.mark.parametrize("write", WAYS)
async def test_a_new_content_is_noticed_however_it_got_there(
    path: Path, write: Callable[[Path], None]
) -> None:
    async with watching(path) as watch:
        assert watch.seen == ["old"]
        write(path)
        await watch.sees("new")
        path.write_text("newer")  # it is still looked at where it is now
        await watch.sees("newer")


def config_map(directory: Path, name: str, content: str) -> None:
    """Put `content` in place as kubelet does: a new directory, and a link to it renamed over."""
    (directory / name).mkdir()
    (directory / name / "users.json").write_text(content)
    (directory / "..data_tmp").symlink_to(name)
    (directory / "..data_tmp").rename(directory / "..data")


async def test_a_swapped_link_in_the_middle_of_the_path_is_noticed(tmp_path: Path) -> None:
    config_map(tmp_path, "..2026_11_23", "old")
    path = tmp_path / "users.json"
    path.symlink_to("..data/users.json")
    async with watching(path) as watch:
        for number, content in enumerate(("new", "newer")):
            config_map(tmp_path, f"..2026_11_24.{number}", content)
            await watch.sees(content)
        assert watch.seen[0] == "old"
        shutil.rmtree(tmp_path / "..2026_11_23")


async def test_a_link_to_another_directory_is_followed(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(os.path.relpath(path, tmp_path))
    async with watching(link) as watch:
        rename_over(path)
        await watch.sees("new")
        (tmp_path / "other.json").write_text("newer")
        (tmp_path / "link.tmp").symlink_to(tmp_path / "other.json")
        (tmp_path / "link.tmp").rename(link)
        await watch.sees("newer")
    assert [content for content, _ in itertools.groupby(watch.seen)] == ["old", "new", "newer"]


async def test_a_change_of_the_mode_is_noticed(path: Path) -> None:
    path.chmod(0o600)
    async with watching(path) as watch:
        path.chmod(0o640)
        with trio.fail_after(10):
            while len(watch.seen) < 2:
                await watch._news.wait()
    assert set(watch.seen) == {"old"}


async def test_a_file_that_is_missing_is_noticed_when_it_goes_and_when_it_comes(
    path: Path,
) -> None:
    path.unlink()
    async with watching(path) as watch:
        assert watch.seen == [None]
        path.write_text("new")
        await watch.sees("new")
        shutil.rmtree(path.parent)
        await watch.sees(None)
        path.parent.mkdir()
        path.write_text("newer")
        await watch.sees("newer")


async def test_a_directory_that_is_made_anew_without_the_file_is_the_one_that_is_watched(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.unlink()
    async with watching(path) as watch:
        armed_again = trio.Event()
        watcher_class = watch_module._watcher_class()

        def arm(*args: Any, **options: Any) -> Any:
            watcher = watcher_class(*args, **options)
            armed_again.set()
            return watcher

        monkeypatch.setattr(watch_module, "_watcher_class", lambda: arm)
        path.parent.rmdir()
        path.parent.mkdir()  # which has the same inode, on some file systems
        await armed_again.wait()
        path.write_text("new")
        await watch.sees("new")
    assert watch.seen[0] is None


async def test_a_loop_of_links_is_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    async with watching(path) as watch:
        assert watch.seen == [None]
        path.unlink()
        path.write_text("new")
        await watch.sees("new")


async def test_other_files_in_the_directory_do_not_matter(path: Path) -> None:
    async with watching(path) as watch:
        for number in range(100):
            (path.parent / f"other{number}").write_text("x")
        rename_over(path)
        await watch.sees("new")
        assert len(watch.seen) <= 3  # at the beginning, and at most twice for the rename


async def test_a_burst_of_changes_is_a_few_looks(path: Path) -> None:
    async with watching(path) as watch:
        for number in range(1000):
            path.write_text(str(number))
        await watch.sees("999")
        assert len(watch.seen) < 10


async def test_many_files_can_be_watched_at_once(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    calls: list[str] = []
    news = trio.Event()

    async def changed() -> None:
        calls.append(other.read_text() if other.exists() else "")
        if calls[-1]:
            news.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda task_status: watch_files([path, other], changed, task_status=task_status)
        )
        other.write_text("new")
        await news.wait()
        nursery.cancel_scope.cancel()
    assert calls[-1] == "new"


@pytest.mark.parametrize("failure", [OSError, RuntimeError])
async def test_what_the_system_refuses_later_is_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, failure: type[Exception]
) -> None:
    monkeypatch.setattr(watch_module, "PAUSE", 0.0)
    watcher_class = watch_module._watcher_class()
    tries = 0

    def arm(*args: Any, **options: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries == 2:
            raise failure("no more watches")
        return watcher_class(*args, **options)

    monkeypatch.setattr(watch_module, "_watcher_class", lambda: arm)
    async with watch_logs() as log, watching(path) as watch:
        replace_the_directory(path)
        await watch.sees("new")
        await log.wait_for("cannot watch .*users.json for changes at present: no more watches")
    assert tries > 2


async def test_a_watcher_that_fails_while_it_waits_is_made_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "PAUSE", 0.0)
    wait = watch_module._wait
    waits = 0

    async def fail_at_first(watcher: Any) -> set[str]:
        nonlocal waits
        waits += 1
        if waits == 1:
            raise RuntimeError("error in underlying watcher")
        return await wait(watcher)

    monkeypatch.setattr(watch_module, "_wait", fail_at_first)
    async with watch_logs() as log, watching(path) as watch:
        await log.wait_for("cannot watch .*users.json .* at present: error in underlying watcher")
        write_in_place(path)
        await watch.sees("new")


async def test_a_directory_that_comes_back_between_two_looks_is_watched(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm = watch_module._arm

    def arm_without_it(directories: Any) -> Any:
        monkeypatch.setattr(watch_module, "_arm", arm)
        away = path.parent.rename(path.parent.with_name("away"))
        try:
            return arm(directories)
        finally:
            away.rename(path.parent)

    monkeypatch.setattr(watch_module, "_arm", arm_without_it)
    async with watching(path) as watch:
        write_in_place(path)
        await watch.sees("new")


UNREADABLE = """
import os, sys, trio
from pathlib import Path
from cotun_trio.system.watch import watch_files
import watchfiles._rust_notify

if os.geteuid() == 0:
    os.setuid(65534)
path = Path(sys.argv[1])

async def main():
    new = trio.Event()

    async def changed():
        if path.read_text() == "new":
            new.set()

    async def watching(task_status):
        await watch_files([path], changed, task_status=task_status)

    async with trio.open_nursery() as nursery:
        await nursery.start(watching)
        path.write_text("new")
        await new.wait()
        nursery.cancel_scope.cancel()

trio.run(main)
"""


def test_a_directory_in_the_path_that_nobody_may_list_is_no_obstacle() -> None:
    with tempfile.TemporaryDirectory() as base:
        Path(base).chmod(0o755)
        directory = Path(base) / "closed" / "etc"
        directory.mkdir(parents=True)
        path = directory / "users.json"
        path.write_text("old")
        path.chmod(0o666)
        directory.parent.chmod(0o311)
        try:
            command = [sys.executable, "-c", UNREADABLE, str(path)]
            subprocess.run(command, check=True, timeout=60)
        finally:
            directory.parent.chmod(0o755)


@pytest.mark.parametrize("failure", [OSError, RuntimeError])
async def test_what_the_system_refuses_at_once_is_the_users_error(
    path: Path, monkeypatch: pytest.MonkeyPatch, failure: type[Exception]
) -> None:
    def arm(*_: Any, **__: Any) -> Any:
        raise failure("no more watches")

    monkeypatch.setattr(watch_module, "_watcher_class", lambda: arm)
    with pytest.raises(UsageError, match=r"cannot watch .*: no more watches"):
        await watch_files([path], Watch(path).changed)


async def test_without_the_library_the_error_says_how_to_get_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles._rust_notify", None)
    with pytest.raises(UsageError, match="pip install watchfiles"):
        await watch_files([path], Watch(path).changed)


def test_a_survey_is_the_same_as_long_as_nothing_changes(path: Path) -> None:
    before = survey([path])
    assert str(path.parent) in before.directories
    assert survey([path]) == before
    (path.parent / "other").write_text("x")
    assert survey([path]) == before
    write_in_place(path)
    assert survey([path]) != before


def test_a_relative_path_is_that_from_here(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    assert survey([Path("users.json")]) == survey([path])
    assert survey([Path("../etc/users.json")]).directories == survey([path]).directories
