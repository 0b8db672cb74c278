"""Every input of the corpus, through its target: what `make fuzz` has found once stays found."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import pytest

from tests.fuzz.known import CORPUS, MODULES

if TYPE_CHECKING:
    from pathlib import Path

INPUTS = sorted(file for folder in CORPUS.iterdir() for file in folder.iterdir())


@pytest.mark.parametrize("file", INPUTS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_all_that_has_to_hold_holds_for_the_corpus(file: Path) -> None:
    target = importlib.import_module(MODULES[file.parent.name])
    target.run(file.read_bytes())  # which asserts all of it


def test_every_target_has_a_corpus_and_every_corpus_a_target() -> None:
    assert {file.parent.name for file in INPUTS} == set(MODULES)
