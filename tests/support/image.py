"""The OCI image in tests: its files, and containers of it, by what this machine has."""

from __future__ import annotations

import abc
import contextlib
import hashlib
import json
import os
import signal
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tests.support.first_process import children_of
from tests.support.programs import running
from tests.support.sockets import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from tests.support.programs import Program


@attrs.frozen(eq=False)
class Image:
    """The image of an archive, unpacked."""

    layout: Path
    """The directory with what the archive has."""
    root: Path
    """The file system of its containers."""
    described: dict[str, Any]
    """Its descriptor in the index."""
    manifest: dict[str, Any]
    config: dict[str, Any]

    @classmethod
    def unpack(cls, archive: Path, directory: Path) -> Image:
        """Unpack an archive; checks all digests."""
        layout, root = directory / "layout", directory / "root"
        with tarfile.open(archive) as tar:
            tar.extractall(layout, filter="data")
        (described,) = json.loads((layout / "index.json").read_text())["manifests"]
        manifest = json.loads(blob(layout, described))
        for each in manifest["layers"]:
            blob(layout, each)
        image = cls(layout, root, described, manifest, json.loads(blob(layout, manifest["config"])))
        for number in range(len(manifest["layers"])):
            with image.open_layer(number) as tar:
                tar.extractall(root, filter=_as_it_is)
        return image

    def open_layer(self, number: int) -> tarfile.TarFile:
        """Return a layer, as a tar."""
        return tarfile.open(place(self.layout, self.manifest["layers"][number]))


def _as_it_is(member: tarfile.TarInfo, _path: str) -> tarfile.TarInfo:
    """Let in links to absolute paths, too; owners are those of the test."""
    return member.replace(uid=None, gid=None, uname=None, gname=None, deep=False)  # type: ignore[arg-type]


def place(layout: Path, described: Mapping[str, Any]) -> Path:
    """Return where a layout has what a descriptor is about."""
    name: str = described["digest"]
    kind, _, digest = name.partition(":")
    return layout / "blobs" / kind / digest


def blob(layout: Path, described: Mapping[str, Any]) -> bytes:
    """Return what a descriptor is about, which has to be as it says."""
    data = place(layout, described).read_bytes()
    assert described["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert described["size"] == len(data)
    return data


@attrs.frozen
class Container:
    """A container that runs."""

    program: Program
    """What its program says; its exit status."""
    pid: int
    """The number of its first process, outside."""
    enter: tuple[str, ...]
    """The beginning of a command line that runs another program in it."""


@attrs.frozen
class Command:
    """The command line that runs a container."""

    words: tuple[str, ...]
    enter: tuple[str, ...]
    """See `Container`; with ``{}`` for the number of its first process."""
    told: Path | None = None
    """The file with that number; without it, it is the child of what the command line runs."""

    async def first_process(self, program: Program) -> int:
        """Return the number of the first process; 0 where it has ended."""
        if self.told is None:
            await until(lambda: program.has_ended or children_of(program.pid))
            return next(iter(children_of(program.pid)), 0)
        told = self.told
        await until(lambda: program.has_ended or (told.exists() and told.read_text()))
        return int(told.read_text()) if told.exists() else 0


class Runtime(abc.ABC):
    """Runs containers with the network of this machine, a root that cannot be written, without
    capabilities, and with nothing in /etc but what the image has."""

    needs: tuple[str, ...]
    """The programs by which it does that."""

    def __init__(self, image: Image, directory: Path) -> None:
        self._image = image
        self._directory = directory
        self._settings = image.config["config"]
        (self._volume,) = self._settings["Volumes"]

    def command(
        self,
        *words: str,
        env: Mapping[str, str] | None = None,
        user: int | None = None,
        program: str | None = None,
    ) -> Command:
        """Return how to run a container whose entry point, or another program, gets `words`."""
        variables = dict(each.split("=", 1) for each in self._settings["Env"])
        number = int(self._settings["User"].partition(":")[0]) if user is None else user
        entry = self._settings["Entrypoint"] if program is None else [program]
        return self._command([*entry, *words], {**variables, **(env or {})}, number)

    @contextlib.asynccontextmanager
    async def run(self, *words: str, **told: Any) -> AsyncIterator[Container]:
        """Run a container; `told` is as for `command`."""
        command = self.command(*words, **told)
        async with running(*command.words) as program:
            pid = await command.first_process(program)
            try:
                yield Container(program, pid, tuple(word.format(pid) for word in command.enter))
            finally:
                if pid and not program.has_ended:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    @abc.abstractmethod
    def _command(self, words: Sequence[str], env: Mapping[str, str], user: int) -> Command:
        """Return how to run these words in a container, with nothing else in their environment."""


class Namespaces(Runtime):
    """By ``unshare``; it needs no root where the system lets all users have namespaces."""

    needs = ("unshare", "nsenter")
    # The first process mounts, and becomes another user before it becomes the program.
    PREPARE = """
        set -e
        root=$1 volume=$2
        shift 2
        mount --rbind "$root" "$root"
        mount -t proc proc "$root/proc"
        mount -t tmpfs -o mode=1777 tmpfs "$root$volume"
        mount --bind /dev/null "$root/dev/null"
        mount -o remount,bind,ro "$root"
        cd "$root"
        exec env -i "$@"
    """

    def _command(self, words: Sequence[str], env: Mapping[str, str], user: int) -> Command:
        root = self._image.root
        (root / "dev" / "null").touch()
        alone = ("--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child")
        prepare = ("sh", "-c", self.PREPARE, "sh", str(root), self._volume)
        variables = [f"{name}={value}" for name, value in env.items()]
        # Another user can do nothing of that any more.
        become = ("/usr/bin/unshare", "--user", f"--map-user={user}", f"--map-group={user}")
        enter = ("nsenter", "--target={}", "--user", "--preserve-credentials", "--mount", "--pid")
        return Command(
            ("unshare", *alone, *prepare, *variables, *become, "--root=.", *words),
            (*enter, "--root", "--wd"),
        )


class Crun(Runtime):
    """By ``crun``, which Podman uses, too: the settings of the image become those of a bundle."""

    needs = ("crun", "unshare")
    # Where both versions of cgroups are mounted, it refuses to run.
    UNIFIED = """
        set -e
        umount --recursive /sys/fs/cgroup
        mount -t cgroup2 none /sys/fs/cgroup
        exec "$@"
    """

    def _command(self, words: Sequence[str], env: Mapping[str, str], user: int) -> Command:
        bundle = Path(tempfile.mkdtemp(dir=self._directory))
        (bundle / "config.json").write_text(json.dumps(self._bundle(words, env, user)))
        unified = ("unshare", "--mount", "sh", "-c", self.UNIFIED, "sh")
        crun = (*unified, "crun", f"--root={bundle}/state", "--cgroup-manager=disabled")
        told = bundle / "pid"
        run = (*crun, "run", f"--bundle={bundle}", f"--pid-file={told}", bundle.name)
        return Command(run, (*crun, "exec", f"--user={user}:{user}", bundle.name), told)

    def _bundle(self, words: Sequence[str], env: Mapping[str, str], user: int) -> dict[str, Any]:
        def mount(kind: str, place: str, *options: str) -> dict[str, Any]:
            told = ["nosuid", *options]
            return {"destination": place, "type": kind, "source": kind, "options": told}

        return {
            "ociVersion": "1.0.0",
            "process": {
                "args": list(words),
                "env": [f"{name}={value}" for name, value in env.items()],
                "cwd": self._settings["WorkingDir"],
                "user": {"uid": user, "gid": user},
                "noNewPrivileges": True,
            },
            "root": {"path": str(self._image.root), "readonly": True},
            "mounts": [
                mount("proc", "/proc"),
                mount("tmpfs", "/dev", "mode=755"),
                mount("tmpfs", self._volume, "mode=1777"),
            ],
            "linux": {"namespaces": [{"type": name} for name in ("pid", "mount", "ipc", "uts")]},
        }


RUNTIMES: tuple[type[Runtime], ...] = (Crun, Namespaces)
