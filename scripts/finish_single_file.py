"""Give a file that shiv has made a beginning that says in a line why it cannot run.

``python -m scripts.finish_single_file dist/cotun-trio.pyz``, with the Python that it was made with.
The result depends on nothing but the file and that Python.
"""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

from scripts import single_file_main

MAIN = "__main__.py"


def finish(path: Path) -> None:
    """Replace the beginning in the file at `path`."""
    text = Path(single_file_main.__file__).read_text()
    text = text.replace(single_file_main.BUILT_FOR, single_file_main.running())
    made = path.with_suffix(".new")
    with zipfile.ZipFile(path) as old, made.open("wb") as file:
        file.write(path.read_bytes().partition(b"\n")[0] + b"\n")  # the line with the interpreter
        with zipfile.ZipFile(file, "w") as new:
            for info in old.infolist():
                new.writestr(info, text if info.filename == MAIN else old.read(info))
    shutil.copymode(path, made)
    made.replace(path)


if __name__ == "__main__":
    finish(Path(sys.argv[1]))
