"""The single file ``cotun-trio.pyz``: our package and all that the lock has, for the Python and the
kind of machine that this is.

shiv makes it; then it gets a beginning that says in a line why it cannot run,
`scripts.single_file_main`.  The same bytes come out each time, with the same Python.
"""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

from scripts import single_file_main
from scripts.packaging import environment, reproducible
from scripts.packaging.python_packages import DIST

MAIN = "__main__.py"
TARGET = DIST / "cotun-trio.pyz"
CARRIED = reproducible.ROOT / "build" / "single-file"
"""Where it is put together."""


def build(wheel: Path) -> list[environment.Carried]:
    """Make the file from our wheel; return what it carries.

    Raises `UnusableError`, and `CalledProcessError` with what was printed in its `stdout`.
    """
    target = environment.Target.here()
    shutil.rmtree(CARRIED, ignore_errors=True)
    carried = environment.install_for(target, CARRIED, wheel)
    command = [
        *(sys.executable, "-m", "shiv", "--reproducible"),
        *("--console-script", "cotun-trio", "--site-packages", str(CARRIED)),
        *("--python", f"/usr/bin/env python{target.python}", "--output-file", str(TARGET)),
    ]
    reproducible.run(*command)
    finish(TARGET)
    return carried


def finish(path: Path) -> None:
    """Replace the beginning in the file at `path`.

    What is in it gets an order and modes that do not come from how shiv was installed.
    """
    text = Path(single_file_main.__file__).read_text(encoding="utf-8")
    text = text.replace(single_file_main.BUILT_FOR, single_file_main.running())
    made = path.with_suffix(".new")
    with zipfile.ZipFile(path) as old, made.open("wb") as file:
        file.write(path.read_bytes().partition(b"\n")[0] + b"\n")  # the line with the interpreter
        with zipfile.ZipFile(file, "w") as new:
            for info in sorted(old.infolist(), key=lambda info: info.filename):
                data = old.read(info)
                mode = info.external_attr >> 16
                runs = mode & 0o100 and info.filename.startswith("site-packages/")
                info.external_attr = (reproducible.RUNS if runs else reproducible.PLAIN) << 16
                new.writestr(info, text if info.filename == MAIN else data)
    made.chmod(reproducible.RUNS)
    made.replace(path)
