"""An empty Debian system in a directory: programs run in it, and systemd as in a machine."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from tests.support.control_groups import remove_group
from tests.support.peers import lacking

if TYPE_CHECKING:
    from collections.abc import Iterator

RELEASE = "bookworm"
"""Debian 12."""
LIMIT = 180
"""Seconds for a program, such as apt-get, which mostly waits for the network and the disk."""
MORE = ("--skip=check/empty", "--skip=cleanup/apt/lists")
"""What mmdebstrap is told, so that apt-get need not be told to update."""
BOOT = 60
"""Seconds for systemd to start, which takes 3 here."""
NAMESPACES = ("-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w")
UNREACHED = re.compile("connect|resolv|fetch|network|timed out", re.IGNORECASE)
"""What apt-get says where Debian cannot be reached."""
_PASSED_ON = re.compile("(http|https|ftp|all|no)_proxy", re.IGNORECASE)


def environment() -> dict[str, str]:
    """Return the environment of root who has just logged in."""
    kept = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {**kept, "PATH": path, "HOME": "/root", "LC_ALL": "C.UTF-8", "TERM": "dumb"}


@attrs.frozen
class Root:
    """The directory of a system, and how to run a program in it."""

    path: Path
    leader: int = 0
    """The process number of its first process, where the system runs."""

    def outcome(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program with the text `given` as its standard input, and return how that ended."""
        if self.leader:
            inside = ["nsenter", f"--target={self.leader}", *NAMESPACES]
        else:
            proc = f"--mount-proc={self.path}/proc"
            inside = ["unshare", "--mount", "--pid", "--fork", "--kill-child", proc]
            inside += ["chroot", str(self.path)]
        return subprocess.run(
            [*inside, *words],
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(),
            text=True,
            timeout=LIMIT,
        )

    def run(self, *words: str, given: str = "") -> str:
        """Run a program that has to succeed, and return what it prints."""
        done = self.outcome(*words, given=given)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def shell(self, script: str, given: str = "") -> str:
        """Run a script in which each command has to succeed, and return what it prints."""
        return self.run("bash", "-euo", "pipefail", "-c", script, given=given)

    def file(self, name: str) -> Path:
        """Return where a file of the system is."""
        return self.path / name.lstrip("/")

    def files(self) -> set[str]:
        """Return the names of all files and directories that stay."""
        passing = ("proc", "sys", "dev", "run", "tmp")
        found = set()
        for directory, names, others in os.walk(self.path):
            if directory == str(self.path):
                names[:] = [name for name in names if name not in passing]
            relative = Path(directory).relative_to(self.path)
            found |= {str(relative / name) for name in (*names, *others)}
        return found


@contextlib.contextmanager
def in_the_making(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Begin to make a small system at `path`, in memory; give the process, for `finished`.

    Skips where that cannot be done here.
    """
    if reason := lacking("mmdebstrap", "systemd-nspawn", "unshare", "nsenter"):
        pytest.skip(reason)
    if os.geteuid() != 0:
        pytest.skip("only root can make a system in a directory")
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        command = ["mmdebstrap", "--quiet", "--variant=minbase", *MORE, RELEASE, str(path)]
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(),
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.terminate()
                process.communicate()
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", str(path)], check=True)


def finished(process: subprocess.Popen[str], path: Path) -> Root:
    """Wait for a system in the making, and return it.  Skips where Debian cannot be reached."""
    said, _ = process.communicate(timeout=LIMIT)
    if process.returncode and UNREACHED.search(said):
        pytest.skip(f"Debian cannot be reached: {said.strip().splitlines()[-1]}")
    assert process.returncode == 0, said
    (path / "etc/hosts").write_text("127.0.0.1 localhost\n")
    return Root(path)


@contextlib.contextmanager
def started(root: Root, place: Path) -> Iterator[Root]:
    """Start a system that has systemd, without a network but the loopback interface; give it.

    `place` is an empty directory, which it does not see.  Skips where systemd cannot run.
    """
    with contextlib.ExitStack() as stack:
        groups = [stack.enter_context(_group(parent)) for parent in _groups()]
        log = stack.enter_context((place / "console").open("w+"))
        heard = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        heard.bind(str(place / "notify"))
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-ec", _START, str(root.path), *map(str, groups)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**environment(), "NOTIFY_SOCKET": str(place / "notify")},
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        leader = _leader(heard)
        heard.close()  # what nobody reads would have nspawn wait at the end
        if leader is None:
            log.seek(0)
            said = log.read()
            assert re.search("(?i)not permitted|permission|not supported|read-only", said), said
            pytest.skip(f"systemd may not run in a directory here: {said.splitlines()[-1]}")
        machine = os.pidfd_open(leader)
        stack.callback(os.close, machine)
        try:
            yield attrs.evolve(root, leader=leader)
            signal.pidfd_send_signal(machine, signal.SIGRTMIN + 3)  # to systemd: halt
            process.wait(timeout=BOOT)
        finally:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(machine, signal.SIGKILL)
            select.select([machine], [], [], BOOT)  # until it has ended, and all others before it


_START = """\
for group in "$@"; do echo $$ >"$group/cgroup.procs"; done
# nspawn leaves directories behind below it: it gets one of its own.
mkdir -p /run/systemd
mount -t tmpfs tmpfs /run/systemd
exec systemd-nspawn --quiet --boot --register=no --keep-unit --private-network --notify-ready=yes \
    --directory="$0"
"""
"""Begin the system in a directory, as a process of these control groups."""


def _leader(heard: socket.socket) -> int | None:
    """Return the first process when it has started its system; None where it does not."""
    heard.settimeout(BOOT)
    leader = None
    with contextlib.suppress(TimeoutError):
        while True:
            said = heard.recv(4096).decode()
            if found := re.search("^X_NSPAWN_LEADER_PID=([0-9]+)", said, re.MULTILINE):
                leader = int(found[1])
            if "READY=1" in said.split("\n"):
                return leader
    return None


def _groups() -> Iterator[Path]:
    """Yield the control groups of this process in which nspawn makes others."""
    top = Path("/sys/fs/cgroup")
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        places = {"": "unified" if (top / "unified").exists() else "", "name=systemd": "systemd"}
        if controllers in places:
            yield top / places[controllers] / path.lstrip("/")


@contextlib.contextmanager
def _group(parent: Path) -> Iterator[Path]:
    """Make a control group; give it, and remove it with those below it."""
    group = parent / f"cotun-test-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        remove_group(group)
