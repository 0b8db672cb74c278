"""What `cotun_trio.system.watch` relies on inside watchfiles, one test for each.

`watchfiles._rust_notify.RustNotify` is private.  All of this is asked of watchfiles alone, so that
an upgrade says what has moved.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import resource
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cotun_trio.system import watch as watch_module

if TYPE_CHECKING:
    from collections.abc import Callable

rust_notify = pytest.importorskip("watchfiles._rust_notify")

STEP, MAX_BURST = 10, 100
"""Milliseconds; shorter than those of the watch."""


def watcher(*directories: Path) -> Any:
    """Return a watcher, made with the arguments of `watch_files`."""
    return rust_notify.RustNotify(
        sorted(map(str, directories)),
        debug=False,
        force_polling=False,
        poll_delay_ms=0,
        recursive=False,
        ignore_permission_denied=False,
    )


def wait(subject: Any, stop: threading.Event | None = None) -> Any:
    """Wait as `watch._wait` does: without a limit, by arguments that have no names."""
    return subject.watch(MAX_BURST, STEP, 0, stop or threading.Event())


def in_thread(function: Callable[[], object]) -> tuple[threading.Thread, list[Any]]:
    """Start a thread; return it, and the list that its result will be in."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    return thread, results


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def test_the_class_has_the_methods_that_are_used() -> None:
    """`watch._watcher_class` imports it by this name."""
    assert watch_module._watcher_class() is rust_notify.RustNotify
    assert set(inspect.signature(rust_notify.RustNotify.watch).parameters) >= {
        "debounce_ms",
        "step_ms",
        "timeout_ms",
        "stop_event",
    }


def test_a_directory_that_is_not_there_is_a_file_not_found_error(tmp_path: Path) -> None:
    """`watch_files` surveys the paths again then."""
    with pytest.raises(FileNotFoundError):
        watcher(tmp_path / "gone")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are counted in /proc")
def test_too_few_descriptors_are_a_runtime_error(tmp_path: Path) -> None:
    """`watch.FAILURES` has it, besides `OSError`."""
    assert issubclass(rust_notify.WatchfilesRustInternalError, RuntimeError)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208
    fillers = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.dup(0))
        with pytest.raises(rust_notify.WatchfilesRustInternalError):
            watcher(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for filler in fillers:
            os.close(filler)


def test_what_happens_after_arming_is_not_missed(tmp_path: Path) -> None:
    """`watch_files` makes the watcher, surveys the paths, and waits only then."""
    subject = watcher(tmp_path)
    (tmp_path / "file").write_text("new")
    events = wait(subject)
    assert type(events) is set
    assert {path for _, path in events} == {str(tmp_path / "file")}
    assert all(type(number) is int for number, _ in events)


def test_what_happens_between_two_waits_is_not_missed(tmp_path: Path) -> None:
    """`watch_files` surveys the paths between them, and awaits what somebody does about it."""
    subject = watcher(tmp_path)
    (tmp_path / "one").write_text("new")
    wait(subject)
    (tmp_path / "two").write_text("new")
    assert str(tmp_path / "two") in {path for _, path in wait(subject)}


def test_a_directory_below_is_not_watched(tmp_path: Path) -> None:
    """`survey` names each directory that counts."""
    below = tmp_path / "below"
    below.mkdir()
    subject = watcher(tmp_path)
    (below / "file").write_text("new")
    (tmp_path / "file").write_text("new")
    assert str(below / "file") not in {path for _, path in wait(subject)}


def test_an_event_names_the_watched_directory_itself_when_that_goes(tmp_path: Path) -> None:
    """`watch_files` makes a new watcher then: what has the name next is another directory."""
    directory = tmp_path / "etc"
    directory.mkdir()
    subject = watcher(tmp_path, directory)
    directory.rename(tmp_path / "old")
    assert str(directory) in {path for _, path in wait(subject)}


def test_the_event_that_stops_it_ends_the_wait(tmp_path: Path) -> None:
    """`watch._wait` sets it when it is cancelled, and the thread must not stay."""
    stop = threading.Event()
    thread, results = in_thread(lambda: wait(watcher(tmp_path), stop))
    stop.set()
    thread.join(10)
    assert results == ["stop"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_signal_does_not_end_a_wait_in_a_thread(tmp_path: Path) -> None:
    """The result is a string then, where `watch._wait` takes it for events."""
    handled = threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda *_: handled.set())
    try:
        subject = watcher(tmp_path)
        thread, results = in_thread(lambda: wait(subject))
        os.kill(os.getpid(), signal.SIGUSR1)
        assert handled.wait(10), "other threads cannot run while it waits"
        assert thread.is_alive()
        (tmp_path / "file").write_text("new")
        thread.join(10)
        assert {path for _, path in results[0]} == {str(tmp_path / "file")}
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are counted in /proc")
def test_its_descriptors_go_with_it(tmp_path: Path) -> None:
    """`watch_files` closes no watcher: it lets go of it."""
    (tmp_path / "file").write_text("old")
    watcher(tmp_path)  # the library may keep something from its first use on
    before = descriptors()
    subjects = [watcher(tmp_path) for _ in range(5)]
    assert descriptors() > before
    del subjects
    while descriptors() > before:  # its own thread closes them, and tells nobody
        os.sched_yield()
