"""The sdist and the wheel, in ``dist``: the same bytes each time."""

from __future__ import annotations

import sys
import tomllib
from typing import TYPE_CHECKING, Any

from scripts.packaging.reproducible import ROOT, run

if TYPE_CHECKING:
    from pathlib import Path

DIST = ROOT / "dist"
"""Where all is put that is made for users."""


def read_project() -> dict[str, Any]:
    """Return what pyproject.toml says about the project."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project: dict[str, Any] = tomllib.loads(text)["project"]
    return project


def version() -> str:
    """Return the version of the project."""
    return str(read_project()["version"])


def build() -> tuple[Path, Path]:
    """Make the sdist, and the wheel from it; return where they are.

    Raises `CalledProcessError`, with what was printed in its `stdout`.
    """
    run(sys.executable, "-m", "build", "--no-isolation", f"--outdir={DIST}", str(ROOT))
    name = f"cotun_trio-{version()}"
    return DIST / f"{name}.tar.gz", DIST / f"{name}-py3-none-any.whl"
