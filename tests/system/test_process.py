"""`cotun_trio.system.process`: the settings that a program makes, and a library does not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cotun_trio.settings import ProcessSettings
from cotun_trio.system import process


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the settings as they are made, none of which touches the process of the tests."""
    names: list[str] = []

    def note(name: str) -> object:
        return lambda *_args, **_options: names.append(name)

    collector = SimpleNamespace(freeze=note("freeze"), set_threshold=note("set_threshold"))
    log = SimpleNamespace(never_wait=note("never_wait"), configure=note("configure"))
    monkeypatch.setattr(process, "gc", collector)
    monkeypatch.setattr(process, "logs", log)
    for name in ("_raise_descriptor_limit", "keep_freed_blocks"):
        monkeypatch.setattr(process, name, note(name))
    return names


def test_a_program_has_freed_blocks_kept_and_its_log_configured(made: list[str]) -> None:
    process.prepare(ProcessSettings())
    assert set(made) == {
        "_raise_descriptor_limit",
        "keep_freed_blocks",
        "never_wait",
        "configure",
        "freeze",
        "set_threshold",
    }


def test_garbage_is_frozen_behind_all_else_that_lives_as_long_as_the_process(
    made: list[str],
) -> None:
    process.prepare(ProcessSettings())
    assert made.index("freeze") > made.index("configure")
