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
    from collections.abc import Iterable, Sequence
    from pathlib import Path

GLIBC = range(28, 16, -1)
"""The minor versions of glibc whose wheels are taken."""
OURS = "cotun-trio"
MACHINES = ("x86_64", "aarch64")
KEPT = reproducible.ROOT / "build" / "wheels"
"""Where wheels are kept that have been downloaded."""
_NOT_CARRIED = ("direct_url.json", "REQUESTED")
"""What pip writes about the way in which a package came: the first one with a path."""


class UnusableError(Exception):
    """An environment cannot be made; in words for a person."""


class Target(NamedTuple):
    """What an environment is for."""

    python: str
    """A minor version, such as 3.11."""
    machine: str
    """What ``uname -m`` says: x86_64 or aarch64."""
    system: str = "linux"
    """As in `sys.platform`: another one can only be the one that this runs on."""

    @classmethod
    def here(cls) -> Target:
        """Return the Python and the machine that this is."""
        return cls("{}.{}".format(*sys.version_info), platform.machine(), sys.platform)

    def __str__(self) -> str:
        """Return the name of a directory for it."""
        return f"python{self.python}-{self.system}-{self.machine}"

    def is_foreign(self) -> bool:
        """Return whether pip has to be told what it is for: on Linux always, so that an old glibc
        is enough wherever it was made."""
        return self.system == "linux" and self.machine in MACHINES

    def markers(self) -> dict[str, str]:
        """Return what the markers of requirements are about."""
        if not self.is_foreign():
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
        if not self.is_foreign():
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


def install(destination: Path, *, wheel: Path, python: str, machine: str) -> list[Carried]:
    """Put `wheel` and all that the lock has, for Linux, into the directory `destination`, which has
    to be empty or not there; return what is in it then, by name.

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
    if target.system == "linux" and target.machine not in MACHINES:
        raise UnusableError(f"there are no packages for '{target.machine}', only for {MACHINES}")
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
    carried = []
    for folder in folders:
        name, version = PathDistribution(folder).name, PathDistribution(folder).version
        carried.append(Carried(name := canonicalize_name(name), version, digests[name], folder))
    _check_complete(carried, target)
    if compiled and target.python == Target.here().python:
        _compile(destination)
    for folder in folders:
        _record(destination, folder)
    reproducible.settle(destination)
    return sorted(carried)


def _name_of(wheel: Path) -> str:
    return canonicalize_name(wheel.name.partition("-")[0])


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


def _check_complete(carried: Iterable[Carried], target: Target) -> None:
    """Check that the packages are all that each of them needs, in versions that it takes; our own
    with its extras.

    Raises `UnusableError`.
    """
    versions = {package.name: package.version for package in carried}
    for package in carried:
        for needed in needs(package, target):
            name = canonicalize_name(needed.name)
            if name not in versions:
                raise UnusableError(
                    f"{package.name} needs {needed}, which the lock has not: say make lock"
                )
            if not needed.specifier.contains(versions[name], prereleases=True):
                has = f"the lock has {versions[name]}"
                raise UnusableError(f"{package.name} needs {needed}, and {has}: say make lock")


def needs(package: Carried, target: Target) -> list[Requirement]:
    """Return what a package needs in an environment for `target`; our own with its extras."""
    extras = lock.EXTRAS if package.name == OURS else ()
    found = []
    for text in PathDistribution(package.folder).requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        markers = target.markers()
        if marker is None or any(marker.evaluate({**markers, "extra": e}) for e in ("", *extras)):
            found.append(requirement)
    return found


def _clean(destination: Path) -> None:
    """Remove what would differ from one directory to another."""
    shutil.rmtree(destination / "bin", ignore_errors=True)
    for name in _NOT_CARRIED:
        for path in destination.glob(f"*.dist-info/{name}"):
            path.unlink()


def _compile(destination: Path) -> None:
    """Compile all modules, in one process that does nothing else: what is interned in it is part of
    what comes out.

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
