"""The targets: each is a module in ``targets``, with a function ``run(data: bytes) -> None``."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
"""A folder for each target, with inputs that lead deep into it."""
MODULES = {
    file.stem: f"tests.fuzz.targets.{file.stem}"
    for file in sorted((HERE / "targets").glob("[a-z]*.py"))
}
