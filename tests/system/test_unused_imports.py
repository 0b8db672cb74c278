"""Imports at start: a command loads only the libraries that it uses."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from cotun_trio.system import unused_imports
from tests.support.targets import free_port

HEAVY = {"asyncio", "cryptography.x509", "http.client", "invoke.tasks", "unittest", "yaml"}


def imported(*arguments: str) -> set[str]:
    """Return the modules that a Python process has imported by its end."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    return set(re.findall(r"^import time:[^|]*\|[^|]*\| *(\S+)$", done.stderr, re.MULTILINE))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (["client", "--max-retry-count=0", f"http://127.0.0.1:{free_port()}", "0:9"], "client"),
        (["server", "--host=127.0.0.1", "--port=none"], "cli.server"),
    ],
)
def test_a_program_does_not_import_what_it_never_uses(arguments: list[str], needed: str) -> None:
    modules = imported("-m", "cotun_trio", *arguments)
    assert f"cotun_trio.{needed}" in modules
    assert not HEAVY & modules


@pytest.mark.slow
def test_a_worker_does_not_import_what_it_never_uses() -> None:
    modules = imported("-m", "cotun_trio.workers")
    assert "cotun_trio.workers.worker" in modules
    assert not HEAVY - {"cryptography.x509"} & modules


def test_a_module_that_is_imported_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "invoke", sys)
    unused_imports.leave_out()
    assert sys.modules["invoke"] is sys


def test_a_module_that_is_left_out_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "invoke", raising=False)
    unused_imports.leave_out()
    with pytest.raises(ImportError):
        import invoke  # noqa: F401
    monkeypatch.delitem(sys.modules, "invoke")
