"""Machines on which README's commands can be typed: namespaces, over a root that is this one's.

What a command writes is written over the root and gone with the machine.  Each has a network of its
own, and a cable leads to the other one.  It takes root, and a kernel that lets root do that.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Self

import attrs
import trio

from scripts.peers import DAEMONS
from tests.support.control_groups import remove_group
from tests.support.programs import PATIENCE, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.programs import Program

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
"""Where ``cotun-trio`` is, as pip has installed it."""
_BEGIN = """
set -e
mount -t tmpfs readme "$0"
mkdir "$0/upper" "$0/work" "$0/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$0/upper,workdir=$0/work" "$0/root"
cd "$0/root"
mount --rbind /dev dev
mount -t proc proc proc
mount -t tmpfs run run
mkdir -p run/sshd root/.ssh home/you
mount -t tmpfs ssh root/.ssh
chmod 700 root/.ssh
for path; do mkdir -p ".$path"; mount --bind --options ro "$path" ".$path"; done
exec chroot . sh -c "echo ready; exec sleep infinity"
"""
"""What a machine's first process does.  Each address in 10.20.0.0/16 is its own."""


def _elsewhere() -> list[str]:
    """Return the directories that a machine needs and that are no part of the root's file system.

    An overlay has nothing of what is mounted below it.
    """
    here = Path("/").stat().st_dev
    wanted = {ROOT, Path(sys.prefix), Path(sys.base_prefix)}
    return [str(path) for path in wanted if path.stat().st_dev != here]


def no_machines() -> str | None:
    """Return why there can be no machines here; None where there can."""
    if os.geteuid() != 0:
        return "only root can have namespaces of its own"
    probe = (
        "d=$(mktemp -d); mount -t tmpfs t $d && mkdir $d/u $d/w $d/m && "
        "mount -t overlay o -o lowerdir=/,upperdir=$d/u,workdir=$d/w $d/m && "
        "ip link add name v0 type veth peer name v1; s=$?; umount -R $d; rmdir $d; exit $s"
    )
    command = ["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "sh", "-c", probe]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"namespaces take util-linux: {error}"
    return f"no namespaces with an overlay here: {done.stderr.strip()}" if done.returncode else None


@attrs.frozen
class Machine:
    """A machine, by the number of its first process; commands run in `directory`."""

    pid: int
    directory: str = "/home/you"
    _numbers: itertools.count[int] = attrs.field(factory=itertools.count, repr=False)

    def checked(self) -> Self:
        """Return it, if it has a root of its own: a command may write anything anywhere."""
        assert self.path("/").stat().st_dev != Path("/").stat().st_dev
        return self

    def path(self, name: str) -> Path:
        """Return the path by which this process reaches a file of the machine's."""
        return Path(
            f"/proc/{self.pid}/root{name if name[0] == '/' else f'{self.directory}/{name}'}"
        )

    def knows(self, **names: str) -> None:
        """Have it know names, by their addresses; ``_`` stands for a dot."""
        with self.path("/etc/hosts").open("a") as file:
            file.writelines(f"{at} {name.replace('_', '.')}\n" for name, at in names.items())

    def _command(self, *words: str) -> list[str]:
        enter = ["nsenter", f"--target={self.pid}", "--net", "--mount", "--pid", "--uts", "--root"]
        return [*enter, f"--wd={self.path(self.directory)}", *words]

    @contextlib.asynccontextmanager
    async def running(
        self, text: str, *, until: str | None = None, env: dict[str, str] | None = None
    ) -> AsyncIterator[Program]:
        """Type a text into a shell; give what it says, when it has said `until`.

        At the end, all that the shell has started is ended by SIGTERM.
        """
        number = f"/run/shell-{next(self._numbers)}"
        path = f"{BIN}:{os.environ.get('PATH', os.defpath)}:{DAEMONS}"
        environment = {"HOME": "/root", "PATH": path, "LANG": "C.UTF-8", **(env or {})}
        shell = f"echo $$ >{number}\n{text}"
        command = self._command("setsid", "--wait", "bash", "-ec", shell)
        async with running(*command, env=environment) as program:
            if until is not None:
                await program.wait_for(until)
            yield program
            if not program.has_ended:
                end = f"kill -TERM -- -$(cat {number})"
                subprocess.run(self._command("bash", "-c", end), check=False)
                await program.wait()

    async def run(self, text: str, *, status: int = 0, env: dict[str, str] | None = None) -> str:
        """Type a text into a shell, and return what was printed when all of it has ended."""
        async with self.running(text, env=env) as program:
            ended = await program.wait()
        said = "\n".join(program.lines)
        assert ended == status, f"{text}\nended with {ended}:\n{said}"
        return said


@contextlib.asynccontextmanager
async def machine(
    place: Path, name: str, *, directory: str = "/home/you", online: bool = False
) -> AsyncIterator[Machine]:
    """Give a machine, whose files are at `place`, a new directory.

    It is connected to nothing, or `online`: then it has this one's network.
    """
    command = ["unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child"]
    script = f"hostname {name}\n{_BEGIN}"
    if not online:
        command.append("--net")
        script = f"ip link set lo up; ip address add 10.20.0.0/16 dev lo; {script}"
    place.mkdir()
    async with running(*command, "bash", "-c", script, str(place), *_elsewhere()) as program:
        await program.wait_for("^ready$")
        yield Machine(_child(program.pid), directory).checked()


@contextlib.asynccontextmanager
async def two_machines(place: Path) -> AsyncIterator[tuple[Machine, Machine]]:
    """Give the machine inside and your own, with a cable between them.

    Only the one inside knows the names and has the addresses of what is inside.
    """
    async with machine(place / "inside", "inside") as inside, machine(place / "own", "own") as own:
        cable = ["ip", "link", "add", "name", "wire", "netns", str(inside.pid), "type", "veth"]
        await trio.run_process([*cable, "peer", "name", "wire", "netns", str(own.pid)])
        for each, address in ((inside, "10.7.0.1"), (own, "10.7.0.2")):
            await each.run(f"ip address add {address}/24 dev wire; ip link set wire up")
        own.knows(inside_example_com="10.7.0.1", other_example_com="10.7.0.1")
        inside.knows(
            inside_example_com="10.7.0.1",
            db_internal="10.20.0.5",
            ns_internal="10.20.0.53",
            intranet_internal="10.20.0.80",
        )
        yield inside, own


_BOOT = """
set -e
mount -t proc proc /proc
cd "$0"
mkdir booted-upper booted-work booted
mount -t overlay overlay -o lowerdir=/,upperdir=booted-upper,workdir=booted-work booted
cp root/etc/hosts booted/etc/hosts
cd booted
mkdir -p opt/cotun/source opt/cotun/libraries home/you
mount --bind --options ro "$1" opt/cotun/source
mount --bind --options ro "$2" opt/cotun/libraries
cp "$4" usr/local/bin/cotun-trio
chmod 755 usr/local/bin/cotun-trio
rm -f etc/machine-id
cat >etc/systemd/system/readme.target <<END
[Unit]
Description=No more than services need
Requires=sysinit.target
After=sysinit.target
END
for each in systemd unified .; do
    group=/sys/fs/cgroup/$each
    test ! -e $group/cgroup.procs || { mkdir $group/$3; echo $$ >$group/$3/cgroup.procs; }
done
exec systemd-nspawn --quiet --directory="$PWD" --boot --register=no --keep-unit --console=pipe \
    --notify-ready=yes systemd.unit=readme.target
"""
"""What boots systemd on a machine: with a root of its own, for which the program is installed."""
_PROGRAM = """#!/usr/bin/python{version}
import sys
sys.path[:0] = ["/opt/cotun/source", "/opt/cotun/libraries"]
from cotun_trio.__main__ import main
sys.exit(main())
"""
"""The program where no home directory is seen, as under a service's protections."""


def no_services() -> str | None:
    """Return why no machine can have services; None where it can."""
    python = "/usr/bin/python{}.{}".format(*sys.version_info)
    if not Path(python).exists():
        return f"services see no home directory, and there is no {python}"
    groups = (f"/sys/fs/cgroup/{each}/cgroup.procs" for each in ("systemd", "."))
    return None if any(os.access(path, os.W_OK) for path in groups) else "no control groups here"


@contextlib.asynccontextmanager
async def booted(host: Machine, place: Path) -> AsyncIterator[Machine]:
    """Boot systemd on a machine, whose `place` this is; give the machine with services.

    It has the network and the names of `host`, and files of its own.
    """
    group = f"readme-{host.pid}"
    libraries = sysconfig.get_path("platlib")
    program = place.parent / f"program-{host.pid}"
    program.write_text(_PROGRAM.format(version="{}.{}".format(*sys.version_info)))
    command = ["nsenter", f"--target={host.pid}", "--net", "--mount", "--pid", "--uts", "--wd=/"]
    command += ["bash", "-c", _BOOT, str(place), str(ROOT), libraries, group, str(program)]
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        await ready.bind(str(place.parent / f"ready-{host.pid}"))
        try:
            async with running(*command, env={"NOTIFY_SOCKET": ready.getsockname()}) as nspawn:
                await _booted(ready)
                init = _child(_child(nspawn.pid))
                yield Machine(init).checked()
                os.kill(init, signal.SIGKILL)
                await nspawn.wait()
        finally:
            for each in ("systemd", "unified", "."):
                remove_group(Path("/sys/fs/cgroup", each, group))


async def _booted(ready: trio.socket.SocketType) -> None:
    """Return when systemd says that it has started what it was to start."""
    with trio.fail_after(PATIENCE):
        while b"READY=1" not in await ready.recv(4096):
            pass


def _child(pid: int) -> int:
    """Return the one child of a process."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)
