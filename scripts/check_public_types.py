"""Check that a type checker knows the type of every public name, wholly, without guessing.

Public is what the package `cotun_trio` and the modules below have, with all that their classes have
and all that these refer to.  Pyright calls every module public whose name has no underscore; what
the others call themselves is their own business.

It runs basedpyright's ``--verifytypes``, which is pyright's: that wheel brings its own node, where
pyright's downloads one.  Then it has both look at ``tests/typing``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYRIGHT = Path(sys.executable).with_name("basedpyright")
PYTHON = ("--pythonpath", sys.executable)
MODULES = (
    r"\.api\.(client\.(TunnelClient|open_client)|events|forwards|server\.(?!running_server))",
    r"\.blocking",
    r"\.errors",
    r"\.pytest_plugin",
    r"\.settings",
    r"\.testing\.(?!pair|places|wire)",
)
PUBLIC = re.compile(rf"cotun_trio(\.\w+$|{'|'.join(MODULES)})")


def main() -> int:
    """Return the exit status."""
    done = subprocess.run(
        [PYRIGHT, "--verifytypes", "cotun_trio", "--ignoreexternal", "--outputjson", *PYTHON],
        # The python that it asks for its path is the first on ours.
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PATH": f"{PYRIGHT.parent}:{os.environ['PATH']}",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    symbols = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    public = [symbol for symbol in symbols if PUBLIC.match(symbol["name"])]
    unknown = [symbol for symbol in public if not symbol["isTypeKnown"]]
    for symbol in unknown:
        print(symbol["name"], *(d["message"] for d in symbol["diagnostics"]), sep="\n  ")
    print(f"{len(public) - len(unknown)} of {len(public)} public names have known types")
    if unknown or len(public) < 100:
        return 1
    return subprocess.run(
        [PYRIGHT, "--level", "error", *PYTHON, ROOT / "tests" / "typing"], cwd=ROOT, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
