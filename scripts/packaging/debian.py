"""Packages of Debian 12 that the image is made of: exact ones, ``scripts/packaging/image.lock``.

A line of the lock has name, version, architecture, SHA-256, and where a mirror has the file.
``make image-lock`` makes it again with the newest versions: apt finds them, and checks Debian's
signatures; it needs no root, and leaves the packages and lists of this machine alone.  A build
only downloads what the lock has, and checks the hashes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from scripts.packaging import reproducible
from scripts.packaging.environment import UnusableError
from scripts.packaging.reproducible import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LOCK = ROOT / "scripts" / "packaging" / "image.lock"
KEPT = ROOT / "build" / "debian"
"""Where packages are kept that have been downloaded."""
RELEASE = "bookworm"
MIRROR = "http://deb.debian.org"
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
"""Debian's names, and what ``uname -m`` says."""
PACKAGES = (
    "base-files",
    "ca-certificates",
    "gcc-12-base",
    "libbz2-1.0",
    "libc6",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libssl3",
    "libstdc++6",
    "libuuid1",
    "python3.11-minimal",
    "zlib1g",
)
"""An interpreter, and what it and the compiled modules of our packages are linked with."""
HEAD = "# Made by make image-lock: name, version, architecture, SHA-256, place on a mirror.\n"
_TIMEOUT = 60.0


class Package(NamedTuple):
    """A line of the lock."""

    name: str
    version: str
    architecture: str
    digest: str
    place: str
    """Where it is on a mirror, after the first slash."""

    @property
    def kept(self) -> Path:
        """Where it is kept once it has been downloaded."""
        return KEPT / f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"


def locked(architecture: str) -> list[Package]:
    """Return the packages of the image for an architecture of Debian's."""
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    packages = [Package(*line.split()) for line in lines if not line.startswith("#")]
    return [package for package in packages if package.architecture in (architecture, "all")]


def download(package: Package, mirror: str = MIRROR) -> Path:
    """Return the file of a package, which is downloaded if it is not kept.

    Raises `UnusableError`.
    """
    kept = package.kept
    if not kept.exists() or reproducible.sha256(kept) != package.digest:
        data = _fetch(f"{mirror}/{package.place}", package)
        if hashlib.sha256(data).hexdigest() != package.digest:
            raise UnusableError(
                f"{mirror} has another {package.name} {package.version} than the lock: it may be "
                "damaged on its way; if it stays so, say make image-lock"
            )
        kept.parent.mkdir(parents=True, exist_ok=True)
        made = kept.with_suffix(f".{os.getpid()}")
        made.write_bytes(data)
        made.replace(kept)
    return kept


def _fetch(url: str, package: Package) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            data: bytes = answer.read()
            return data
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise UnusableError(
                f"Debian has no {package.name} {package.version} any more: say make image-lock for "
                "the versions of today"
            ) from None
        raise UnusableError(f"cannot download {url}: {error}") from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise UnusableError(f"cannot download {url}: {reason}") from None


def unpack(path: Path, root: Path) -> None:
    """Put the files of a package below `root`.  Its scripts are not run.

    Raises `UnusableError`.
    """
    _run("dpkg-deb", "--extract", str(path), str(root))


def control(path: Path) -> str:
    """Return what a package says about itself, as ``dpkg --status`` shows it.

    Raises `UnusableError`.
    """
    return _run("dpkg-deb", "--field", str(path))


def _run(*command: str, env: dict[str, str] | None = None) -> str:
    if shutil.which(command[0]) is None:
        raise UnusableError(f"there is no {command[0]} here: it is in Debian's package dpkg or apt")
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        raise UnusableError(f"{' '.join(command)}:\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


# ---- make image-lock


def newest(architecture: str, directory: Path, mirror: str = MIRROR) -> list[Package]:
    """Return the newest of `PACKAGES`, as apt finds them with its files in `directory`.

    Raises `UnusableError`.
    """
    if not KEYS.exists():
        raise UnusableError(f"there is no {KEYS}: it is in the package debian-archive-keyring")
    for name in ("lists/partial", "archives/partial"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / "status").touch()
    suites = {
        "debian": (RELEASE, f"{RELEASE}-updates"),
        "debian-security": (f"{RELEASE}-security",),
    }
    (directory / "sources.list").write_text(
        "".join(
            f"deb [signed-by={KEYS}] {mirror}/{archive} {suite} main\n"
            for archive, names in suites.items()
            for suite in names
        )
    )
    (directory / "apt.conf").write_text(_configuration(architecture, directory))
    env = {**os.environ, "APT_CONFIG": str(directory / "apt.conf"), "LC_ALL": "C.UTF-8"}
    _run("apt-get", "-qq", "-o", "APT::Update::Error-Mode=any", "update", env=env)
    printed = _run("apt-get", "-qq", "download", "--print-uris", *PACKAGES, env=env)
    return sorted(_package(line, mirror) for line in printed.splitlines())


def _configuration(architecture: str, directory: Path) -> str:
    """Return apt's configuration: all in `directory`, and of this machine only its proxies."""
    proxies = [
        line
        for line in _run("apt-config", "dump").splitlines()
        if line.startswith(("Acquire::http", "Acquire::https"))
    ]
    own = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Dir::Cache": directory,
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "Dir::Etc::sourcelist": directory / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State": directory,
        "Dir::State::status": directory / "status",
    }
    return "\n".join([*proxies, *(f'{name} "{value}";' for name, value in own.items()), ""])


def _package(line: str, mirror: str) -> Package:
    """Return the package of a line like ``'URI' FILE SIZE SHA256:DIGEST``."""
    uri, file, _size, digest = line.split()
    name, version, architecture = file.removesuffix(".deb").split("_")
    place = uri.strip("'").removeprefix(f"{mirror}/")
    return Package(name, unquote(version), architecture, digest.removeprefix("SHA256:"), place)


def find_newest() -> list[Package]:
    """Return the newest packages for all architectures.  Raises `UnusableError`."""
    found = {
        package
        for architecture in ARCHITECTURES
        for package in newest(architecture, ROOT / "build" / "apt" / architecture)
    }
    return sorted(found)


def main(words: Sequence[str]) -> int:
    """Make the lock, or only look; print what is new, and return the exit status."""
    parser = argparse.ArgumentParser(prog="make image-lock", description="Make image.lock.")
    parser.add_argument(
        "--check", action="store_true", help="only look: the status is 1 where something is new"
    )
    only_look = parser.parse_args(words).check
    try:
        found = find_newest()
    except UnusableError as error:
        print(error, file=sys.stderr)
        return 1
    known = set(_all()) if LOCK.exists() else set()
    new = [package for package in found if package not in known]
    for package in new:
        print(f"{package.name} {package.version} ({package.architecture})")
    if only_look:
        return int(bool(new))
    LOCK.write_text(HEAD + "".join(f"{' '.join(package)}\n" for package in found))
    return 0


def _all() -> Iterator[Package]:
    for architecture in ARCHITECTURES:
        yield from locked(architecture)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
