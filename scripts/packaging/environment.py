"""The environment that packages carry: a directory for sys.path, with our wheel and all that
``scripts/requirements.lock`` pins, for one minor version of Python and one kind of machine.

What is installed are wheels only, each with a hash that the lock has; they are kept in
``build/wheels`` for the next time.  The directory has the same bytes each time, wherever it is:
there is no path and no time in it, and no programs of its packages, whose first line would be a
path: ``python -m cotun_trio`` is the program.

On Linux, wheels are those for glibc 2.28 or later: Debian 10, Ubuntu 20.04, RHEL 8.
"""

from __future__ import annotations

import base64
import csv
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PathDistribution
from typing import TYPE_CHECKING, NamedTuple

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.packaging import lock, reproducible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

GLIBC = range(28, 16, -1)
"""The minor versions of glibc whose wheels are taken."""
OURS = "cotun-trio"
MACHINES = ("x86_64", "aarch64")
KEPT = reproducible.ROOT / "build" / "wheels"
"""Where wheels are kept that have been downloaded."""
_MINOR = "{}.{}".format(*sys.version_info)
_NOT_CARRIED = ("direct_url.json", "REQUESTED")
"""What pip writes about the way in which a package came: the first one with a path."""


class UnusableError(Exception):
    """An environment cannot be made; in words for a person."""


class Target(NamedTuple):
    """What an environment is for: Linux with glibc, or the system that this is."""

    python: str
    """A minor version, such as 3.11."""
    machine: str
    """What ``uname -m`` says: x86_64 or aarch64."""
    native: bool = False
    """Whether it is for the system and the Python that this is, which pip knows.

    Linux with glibc is never native: an old glibc is to be enough, wherever it was made.
    """

    @classmethod
    def here(cls) -> Target:
        """Return the Python and the machine that this is."""
        machine = platform.machine()
        linux = sys.platform == "linux" and platform.libc_ver()[0] == "glibc"
        return cls(_MINOR, machine, native=not (linux and machine in MACHINES))

    def __str__(self) -> str:
        """Return the name of a directory for it."""
        return f"python{self.python}-{self.machine}{'-native' * self.native}"

    def markers(self) -> dict[str, str]:
        """Return what the markers of requirements are about."""
        if self.native:
            return {name: str(value) for name, value in default_environment().items()}
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }

    def options(self) -> list[str]:
        """Return what pip is told."""
        if self.native:
            return ["--only-binary=:all:"]
        names = [f"manylinux_2_{minor}" for minor in GLIBC] + ["manylinux2014"]
        if self.machine == "x86_64":
            names += ["manylinux_2_12", "manylinux2010", "manylinux_2_5", "manylinux1"]
        return [
            "--only-binary=:all:",
            *(f"--platform={name}_{self.machine}" for name in names),
            f"--python-version={self.python}",
            "--implementation=cp",
        ]


class Carried(NamedTuple):
    """A package in an environment."""

    name: str
    version: str
    digest: str
    """The SHA-256 of its wheel."""
    folder: Path
    """What it says about itself: a directory whose name ends in .dist-info."""
    needs: tuple[str, ...]
    """The names of packages that it needs, which are there, too."""


def install(destination: Path, *, wheel: Path, python: str, machine: str) -> list[Carried]:
    """Put `wheel` and all that the lock has, for Linux, into the directory `destination`, which has
    to be empty or not there; return the packages that it has then, by name.

    Where the Python that runs is of the version `python`, modules are compiled; they are used as
    they are, whatever the times of their sources, so that a file system that cannot be written is
    no loss.

    Raises `UnusableError`.
    """
    return install_for(Target(python, machine), destination, wheel, compiled=True)


def install_for(
    target: Target, destination: Path, wheel: Path, *, compiled: bool = False
) -> list[Carried]:
    """Do that for a target."""
    if not target.native and target.machine not in MACHINES:
        known = " and ".join(MACHINES)
        raise UnusableError(f"there are no packages for '{target.machine}', only for {known}")
    if destination.exists() and any(destination.iterdir()):
        raise UnusableError(f"{destination} is not empty")
    wanted = [pin for pin in lock.pins() if pin.is_for(target.markers())]
    wheels = [*download(target, wanted), wheel]
    _pip(
        *("install", "--no-index", "--no-deps", "--no-compile", f"--target={destination}"),
        *target.options(),
        *map(str, wheels),
    )
    digests = {_name_of(path): reproducible.sha256(path) for path in wheels}
    _clean(destination)
    folders = sorted(destination.glob("*.dist-info"))
    versions = {_name_of(folder): PathDistribution(folder).version for folder in folders}
    carried = []
    for folder in folders:
        name = _name_of(folder)
        needed = _needs(folder, target)
        _check(name, needed, versions)
        names = sorted({canonicalize_name(requirement.name) for requirement in needed})
        carried.append(Carried(name, versions[name], digests[name], folder, tuple(names)))
    if compiled and target.python == _MINOR:
        _compile(destination)
    for folder in folders:
        _record(destination, folder)
    reproducible.settle(destination)
    return sorted(carried)


def _name_of(path: Path) -> str:
    """Return the package of a wheel, or of a folder that pip has made from it."""
    return canonicalize_name(path.name.partition("-")[0])


def download(target: Target, wanted: Sequence[lock.Pin]) -> list[Path]:
    """Return the wheels of `wanted`; those that are not kept are downloaded.

    Raises `UnusableError`.
    """
    kept = KEPT / str(target)
    kept.mkdir(parents=True, exist_ok=True)
    if missing := _missing(kept, wanted):
        told = kept / "missing.txt"
        told.write_text("".join(f"{pin}\n" for pin in missing), encoding="utf-8")
        _pip(
            *("download", "--require-hashes", "--no-deps", f"--dest={kept}"),
            *target.options(),
            f"--requirement={told}",
        )
        told.unlink()
    if missing := _missing(kept, wanted):
        names = ", ".join(pin.name for pin in missing)
        raise UnusableError(f"{kept} has no wheel with a hash of the lock's for: {names}")
    found = _by_digest(kept)
    return [found[min(pin.hashes & found.keys())] for pin in wanted]


def _by_digest(directory: Path) -> dict[str, Path]:
    return {reproducible.sha256(path): path for path in sorted(directory.glob("*.whl"))}


def _missing(directory: Path, wanted: Iterable[lock.Pin]) -> list[lock.Pin]:
    found = _by_digest(directory).keys()
    return [pin for pin in wanted if not pin.hashes & found]


def _pip(*words: str) -> None:
    """Run pip, which says something only where it fails.  Raises `UnusableError`."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=reproducible.environment(),
        text=True,
        check=False,
    )
    if done.returncode:
        raise UnusableError(f"pip {words[0]} failed:\n{done.stdout.strip()}")


def _needs(folder: Path, target: Target) -> list[Requirement]:
    """Return what a package needs in an environment for `target`; our own with its extras."""
    extras = ("", *lock.EXTRAS) if _name_of(folder) == OURS else ("",)
    markers = target.markers()
    found = []
    for requirement in map(Requirement, PathDistribution(folder).requires or ()):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**markers, "extra": extra}) for extra in extras):
            found.append(requirement)
    return found


def _check(name: str, needed: Iterable[Requirement], versions: Mapping[str, str]) -> None:
    """Check that what a package needs is there.  Raises `UnusableError`."""
    for requirement in needed:
        version = versions.get(canonicalize_name(requirement.name))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            has = "does not have it" if version is None else f"has {version}"
            raise UnusableError(f"{name} needs {requirement}, and the lock {has}: say make lock")


def _clean(destination: Path) -> None:
    """Remove what would differ from one directory to another."""
    shutil.rmtree(destination / "bin", ignore_errors=True)
    for name in _NOT_CARRIED:
        for path in destination.glob(f"*.dist-info/{name}"):
            path.unlink()


def _compile(destination: Path) -> None:
    """Compile all modules, in one process that does nothing else: the strings that a process has
    interned change the bytes of its compiled modules.

    The status is left alone: some packages have modules that only newer versions can read.
    """
    words = ("-q", "-q", "--invalidation-mode", "unchecked-hash", "-s", str(destination))
    command = [sys.executable, "-W", "ignore", "-m", "compileall", *words, str(destination)]
    subprocess.run(command, check=False, env=reproducible.environment())


def _record(destination: Path, folder: Path) -> None:
    """Write the list of a package's files anew, with what has been compiled."""
    place = folder / "RECORD"
    with place.open(encoding="utf-8", newline="") as file:
        listed = {row[0] for row in csv.reader(file)}
    for source in [destination / name for name in listed if name.endswith(".py")]:
        for path in source.parent.glob(f"__pycache__/{source.stem}.*.pyc"):
            listed.add(path.relative_to(destination).as_posix())
    with place.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for name in sorted(listed):
            path = destination / name
            if path == place:
                writer.writerow([name, "", ""])
            elif path.is_file() and not name.startswith("../"):
                writer.writerow([name, f"sha256={_digest(path)}", path.stat().st_size])


def _digest(path: Path) -> str:
    """Return a file's hash as a wheel's list has it."""
    digest = bytes.fromhex(reproducible.sha256(path))
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
