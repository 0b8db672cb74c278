"""What gives the same bytes each time: fixed times, modes, owners and orders.

The time of all that is packed is `epoch`.  What a build still depends on is the source, the locks,
and the versions of Python and of its zlib.
"""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]
"""The directory of pyproject.toml."""
PLAIN, RUNS = 0o644, 0o755
"""The modes of files, and of programs and directories."""


def epoch() -> int:
    """Return the time of all that is packed, in seconds: SOURCE_DATE_EPOCH where the environment
    has it, and otherwise that of the last commit.

    Where there is no repository, it is the time of pyproject.toml: in an sdist, that is the time
    with which the sdist was made.  Zip files know no time before 1980.
    """
    return max(_epoch(), 315532800)


def _epoch() -> int:
    if told := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(told)
    if (ROOT / ".git").exists():
        command = ["git", "log", "-1", "--format=%ct"]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        return int(done.stdout)
    return int((ROOT / "pyproject.toml").stat().st_mtime)


def environment() -> dict[str, str]:
    """Return the environment for a program that builds something."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("LC_")}
    fixed = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0"}
    return {**mine, **fixed, "SOURCE_DATE_EPOCH": str(epoch())}


def run(*command: str, **variables: str) -> None:
    """Run a program that builds something, in `ROOT`; what it prints is kept for its failure.

    Raises `CalledProcessError`: see `failure`.
    """
    subprocess.run(
        command,
        cwd=ROOT,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**environment(), **variables},
        text=True,
    )


def failure(error: subprocess.CalledProcessError) -> str:
    """Return for a person what a program has printed that has failed, and its command line."""
    said = error.stdout or ""
    if isinstance(said, bytes):
        said = said.decode(errors="replace")
    return "\n".join(filter(None, [said.rstrip(), f"{' '.join(map(str, error.cmd))} failed"]))


def walk(root: Path) -> Iterator[Path]:
    """Yield all that is below `root`, by name; a directory comes before its entries."""
    for path in sorted(root.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from walk(path)


def settle(root: Path) -> None:
    """Give `root` and all below it modes that do not depend on the umask, and the time `epoch`."""
    time = epoch()
    for path in (*walk(root), root):
        if not path.is_symlink():
            path.chmod(mode_of(path))
        os.utime(path, (time, time), follow_symlinks=False)
    os.utime(root, (time, time))


def mode_of(path: Path) -> int:
    """Return the mode that a file or directory has in a package: who owns it may write it, all may
    read it."""
    mode = path.lstat().st_mode
    return RUNS if stat.S_ISDIR(mode) or mode & stat.S_IXUSR else PLAIN


def sha256(path: Path) -> str:
    """Return the hash of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_tar(
    target: Path | BinaryIO,
    root: Path,
    *,
    modes: Mapping[str, int] | None = None,
    time: int | None = None,
) -> None:
    """Write all that is below `root` to a tar, whose bytes depend on names and contents only.

    All of it is root's.  `modes` are by name, for those that are not as `mode_of` says.  `time` is
    in seconds, for what shall not depend on `epoch`.
    """
    time = epoch() if time is None else time
    if isinstance(target, Path):
        with target.open("wb") as file:
            write_tar(file, root, modes=modes, time=time)
        return
    with tarfile.open(fileobj=target, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in walk(root):
            name = path.relative_to(root).as_posix()
            entry = tar.gettarinfo(path, name)
            if entry.islnk():  # the second name of a file: a file of its own
                entry.type, entry.linkname, entry.size = tarfile.REGTYPE, "", path.stat().st_size
            entry.mode = 0o777 if entry.issym() else (modes or {}).get(name, mode_of(path))
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = time
            if entry.isreg():
                with path.open("rb") as file:
                    tar.addfile(entry, file)
            else:
                tar.addfile(entry)
