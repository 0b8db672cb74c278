"""Copies of the source in which tests make packages; what those need is downloaded once."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from scripts.packaging.reproducible import ROOT
from tests.support.peers import lacking
from tests.support.programs import ended

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 300
"""Seconds for a build, which takes 20 here, and more where it has to download."""
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries=0", "--timeout=15")
ELSEWHERE = {"TZ": "Asia/Kathmandu", "LC_ALL": "POSIX", "PYTHONHASHSEED": "7"}
"""The environment of a second build, which has to give the same bytes."""
_WHEELS = """
from scripts.packaging import environment, lock
target = environment.Target.here()
environment.download(target, [pin for pin in lock.pins() if pin.is_for(target.markers())])
"""


def begin(
    *command: str, cwd: Path | None = None, umask: int = -1, **environment: str
) -> subprocess.Popen[str]:
    """Begin a command, all of whose output can be read."""
    return subprocess.Popen(
        command,
        cwd=cwd,
        umask=umask,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def do(*command: str, cwd: Path | None = None, umask: int = -1, **environment: str) -> str:
    """Run a command that has to succeed; return its output."""
    with ended(begin(*command, cwd=cwd, umask=umask, **environment)) as running:
        said, _ = running.communicate(timeout=LIMIT)
    assert running.returncode == 0, said
    return said


def copy_of_source(place: Path) -> Path:
    """Copy the source to `place`, without what make has made in it; return `place`."""
    ignored = shutil.ignore_patterns(".git", ".venv", "build", "dist", "*_cache", "__pycache__")
    shutil.copytree(ROOT, place, ignore=ignored)
    return place


class Workshop:
    """A copy of the source that has the tools, and the wheels of the lock for this Python."""

    def __init__(self, source: Path) -> None:
        self._source = source

    @property
    def tools(self) -> str:
        """What make is told to have it take the tools from here."""
        return f"TOOLS={self._source / 'build' / 'venv'}"

    @property
    def python(self) -> str:
        """The Python that has the tools."""
        return str(self._source / "build" / "venv" / "bin" / "python")

    def hand_on_wheels(self, source: Path) -> None:
        """Copy the wheels into another copy of the source, which need not download them then."""
        wheels = self._source / "build" / "wheels"
        shutil.copytree(wheels, source / "build" / "wheels", dirs_exist_ok=True)


def workshop(factory: pytest.TempPathFactory) -> Workshop:
    """Return the one of this test run, which all its processes share; make it if it is not there.

    Skips where there is no make, and where the package index cannot be reached.
    """
    if reason := lacking("make"):
        pytest.skip(reason)
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # each process has a directory of its own below it
    place = base / "workshop"
    with (base / "workshop.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
        if not place.exists():
            place.mkdir()
            _make(place)
        if not (place / "made").exists():
            pytest.skip("the package index cannot be reached, or its packages cannot be installed")
    return Workshop(place / "source")


def _make(place: Path) -> None:
    """Make the workshop; the file ``made`` is there if it could be made."""
    command = [*PIP, "download", "--quiet", "--no-deps", f"--dest={place / 'probe'}", "shiv"]
    if subprocess.run(command, capture_output=True, timeout=LIMIT).returncode:
        return
    source = copy_of_source(place / "source")
    do("make", "build/venv/installed", f"PYTHON={sys.executable}", cwd=source)
    do(str(source / "build" / "venv" / "bin" / "python"), "-c", _WHEELS, cwd=source)
    (place / "made").touch()
