"""The OCI image, ``make image``: ``dist/cotun-trio-VERSION-ARCH.oci.tar``.

It is made without a daemon and without root.
``python -m scripts.packaging.image [--arch arm64]``.  It has three layers:

* a system with nothing but an interpreter, from packages of Debian's (see `debian`): no shell, no
  package manager, no program but ``python3.11``;
* the packages that our own needs;
* our own, and the program.

The two below are the same bytes for each version, as long as the locks are the same: an update is
two megabytes.  All modules are compiled, by the image's own interpreter, so that a root that cannot
be written costs no time.
"""

from __future__ import annotations

import argparse
import datetime as dt
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cyclonedx.model.component import ComponentType
from packageurl import PackageURL

from scripts.packaging import debian, environment, oci, python_packages, reproducible, sbom
from scripts.packaging.environment import UnusableError
from scripts.packaging.reproducible import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.packaging.environment import Carried

PYTHON = "3.11"
"""That of Debian 12."""
LIBRARY = f"usr/lib/python{PYTHON}"
MODULES = f"usr/local/lib/python{PYTHON}/dist-packages"
PROGRAM = "usr/bin/cotun-trio"
MAIN = Path(__file__).with_name("image_main.py")
"""The program's source."""
USER = 65532
"""The number of the user and of its group: the one that many images have for this."""
RUN = "run/cotun-trio"
"""Where the program has its admin socket: a volume, since the rest cannot be written.  Any user of
a container can make the socket, and only that user can use it."""
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
FILES = {
    "etc/passwd": f"""\
root:x:0:0:root:/root:/usr/sbin/nologin
cotun-trio:x:{USER}:{USER}:cotun-trio:/nonexistent:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
""",
    "etc/group": f"root:x:0:\ncotun-trio:x:{USER}:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
LINKS = {
    # Where OpenSSL looks: a list that is mounted over Debian's is the one that counts.
    "usr/lib/ssl/cert.pem": f"/{CERTIFICATES}",
    "usr/lib/ssl/certs": "/etc/ssl/certs",
}
MODES = {"root": 0o700, "tmp": 0o1777, "var/tmp": 0o1777, RUN: 0o1777}
UNUSED = (
    "etc/ca-certificates*",
    "etc/default",
    "etc/dpkg",
    "etc/issue*",
    "etc/profile.d",
    "etc/skel",
    "etc/update-motd.d",
    "lib/*/libnss_[!df]*",
    "usr/lib/*/gconv",
    "usr/lib/valgrind",
    "usr/sbin/update-ca-certificates",
    "usr/share/[!cd]*",
    "usr/share/ca-certificates",
    "usr/share/debconf",
    "usr/share/dict",
    "var/backups",
    f"{LIBRARY}/pydoc_data",
    f"{LIBRARY}/test",
    # What needs libraries that are not here: SQLite, readline, curses, Berkeley's database, NIS.
    f"{LIBRARY}/lib-dynload/_crypt.*",
    f"{LIBRARY}/lib-dynload/_curses*",
    f"{LIBRARY}/lib-dynload/_dbm.*",
    f"{LIBRARY}/lib-dynload/_sqlite3.*",
    f"{LIBRARY}/lib-dynload/nis.*",
    f"{LIBRARY}/lib-dynload/readline.*",
)
"""What the packages have, and nothing here uses."""
LICENSES = "usr/share/doc/*/copyright"
SETTINGS = {
    "User": f"{USER}:{USER}",
    "Entrypoint": ["cotun-trio"],
    "WorkingDir": "/",
    "Env": [
        "PATH=/usr/local/bin:/usr/bin:/bin",
        "LANG=C.UTF-8",
        f"COTUN_ADMIN_SOCKET=/{RUN}/admin.sock",
    ],
    "Volumes": {f"/{RUN}": {}},
    "ExposedPorts": {"8080/tcp": {}},
    "StopSignal": "SIGTERM",
    # A field of Docker's, in nanoseconds; OCI has none for it, and others leave it alone.
    "Healthcheck": {
        "Test": ["CMD", "cotun-trio", "status"],
        "Interval": 30 * 10**9,
        "Timeout": 10 * 10**9,
        "StartPeriod": 30 * 10**9,
        "StartInterval": 2 * 10**9,
        "Retries": 3,
    },
}


def make_system(root: Path, architecture: str, mirror: str) -> None:
    """Put a system with an interpreter below `root`, without its modules compiled.

    Raises `UnusableError`.
    """
    root.mkdir(parents=True)
    status = root / "var" / "lib" / "dpkg" / "status.d"  # where scanners look for it
    for package in debian.locked(architecture):
        path = debian.download(package, mirror)
        debian.unpack(path, root)
        status.mkdir(parents=True, exist_ok=True)
        (status / package.name).write_text(debian.control(path))
    authorities = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    (root / CERTIFICATES).write_bytes(b"".join(path.read_bytes() for path in authorities))
    _remove_unused(root)
    for name, text in FILES.items():
        (root / name).write_text(text)
    for name, target in LINKS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(target)
    (root / RUN).mkdir()


def _remove_unused(root: Path) -> None:
    for pattern in UNUSED:
        for path in sorted(root.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    kept = set(root.glob(LICENSES))
    for path in sorted((root / "usr/share/doc").rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in kept and not path.is_symlink():
            path.unlink()


class Compiler:
    """Compiles modules by the interpreter of the lock, for the machine that this runs on.

    What comes out does not depend on the machine.
    """

    def __init__(self, directory: Path, mirror: str) -> None:
        machine = platform.machine()
        found = [name for name, known in debian.ARCHITECTURES.items() if known == machine]
        if not found or sys.platform != "linux":
            raise UnusableError(
                f"an image can be built on Linux with one of {', '.join(debian.ARCHITECTURES)}, "
                f"and this is {sys.platform} on {machine}"
            )
        make_system(directory, found[0], mirror)
        (loader,) = directory.glob("lib/*/ld-linux-*")
        libraries = f"{loader.parent}:{directory / 'usr/lib' / loader.parent.name}"
        self._home = directory / "usr"
        program = self._home / "bin" / "python3.11"
        self._command = [str(loader), "--library-path", libraries, str(program)]

    def compile(self, root: Path, place: str) -> None:
        """Compile all modules at a `place` below the root of a system.

        They are used as they are, whatever the times of their sources.
        """
        command: list[str | Path] = [
            *self._command,
            *("-B", "-P", "-s", "-S", "-W", "ignore", "-m", "compileall", "-q"),
            *("--invalidation-mode", "unchecked-hash", "-s", root, "-p", "/", root / place),
        ]
        env = {"PYTHONHOME": str(self._home), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
        # The status is left alone: some packages have modules that only newer versions can read.
        subprocess.run(command, check=False, env=env, stdout=subprocess.DEVNULL)
        if not any((root / place).rglob("*.pyc")):
            raise UnusableError(f"{self._command[-1]} cannot run here")


def make_modules(root: Path, own: Path, architecture: str, wheel: Path) -> list[Carried]:
    """Put the packages that ours needs below `root`, and our own with the program below `own`.

    Returns what they are.  Raises `UnusableError`.
    """
    target = environment.Target(PYTHON, debian.ARCHITECTURES[architecture])
    found = environment.install_for(target, root / MODULES, wheel)
    (own / MODULES).mkdir(parents=True)
    for path in sorted((root / MODULES).glob("cotun_trio*")):
        path.rename(own / MODULES / path.name)
    program = own / PROGRAM
    program.parent.mkdir(parents=True)
    shutil.copy(MAIN, program)
    program.chmod(0o755)
    moved = own / MODULES
    return [
        each._replace(folder=moved / each.folder.name) if each.name == environment.OURS else each
        for each in found
    ]


def build(architecture: str, wheel: Path, directory: Path, mirror: str) -> Path:
    """Make the image and its bill of materials; return where the image is.

    `directory` is used for it.  Raises `UnusableError`.
    """
    system, needed, own = (directory / name for name in ("system", "needed", "own"))
    compiler = Compiler(directory / "compiler", mirror)
    make_system(system, architecture, mirror)
    carried = make_modules(needed, own, architecture, wheel)
    for root, place in ((system, LIBRARY), (needed, MODULES), (own, MODULES)):
        compiler.compile(root, place)
    layers = (
        oci.Layer.of(system, "Debian 12: an interpreter of Python", modes=MODES, time=0),
        oci.Layer.of(needed, "the packages that cotun-trio needs", time=0),
        oci.Layer.of(own, "cotun-trio"),
    )
    version = python_packages.version()
    labels = _labels()
    path = python_packages.DIST / f"cotun-trio-{version}-{architecture}.oci.tar"
    image = oci.Image(
        name=f"cotun-trio:{version}",
        architecture=architecture,
        created=labels["org.opencontainers.image.created"],
        layers=layers,
        settings={**SETTINGS, "Labels": labels},
        annotations=labels,
    )
    digest = image.write(path)
    sbom.write(
        path,
        carried=carried,
        more=[
            sbom.debian_package(each.name, each.version, each.architecture, sha256=each.digest)
            for each in debian.locked(architecture)
        ],
        kind=ComponentType.CONTAINER,
        purl=PackageURL("oci", None, "cotun-trio", digest, {"arch": architecture, "tag": version}),
    )
    return path


def _labels() -> dict[str, str]:
    """Return what the image says about itself."""
    project = python_packages.read_project()
    created = dt.datetime.fromtimestamp(reproducible.epoch(), dt.UTC)
    return {
        "org.opencontainers.image.created": created.isoformat().replace("+00:00", "Z"),
        "org.opencontainers.image.description": project["description"],
        "org.opencontainers.image.licenses": project["license"],
        "org.opencontainers.image.title": project["name"],
        "org.opencontainers.image.version": project["version"],
    }


def main(words: Sequence[str]) -> int:
    """Make the image; return the exit status."""
    parser = argparse.ArgumentParser(prog="image", description="Make the OCI image.")
    parser.add_argument("--arch", choices=sorted(debian.ARCHITECTURES), default="amd64")
    parser.add_argument("--mirror", default=debian.MIRROR, help="a mirror of Debian's packages")
    told = parser.parse_args(words)
    directory = ROOT / "build" / "image" / told.arch
    shutil.rmtree(directory, ignore_errors=True)
    print(f"building the image for {told.arch} ...", flush=True)
    try:
        _, wheel = python_packages.build()
        path = build(told.arch, wheel, directory, told.mirror.rstrip("/"))
    except subprocess.CalledProcessError as error:
        print(reproducible.failure(error), file=sys.stderr)
        return 1
    except UnusableError as error:
        print(error, file=sys.stderr)
        return 1
    shutil.rmtree(directory)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
