"""The programs that tests talk to: what a run without them says, and what installs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.peers import PACKAGES, find
from tests.support.peers import CHISEL_MISSING, advice, lacking, needs

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "peers.py"


def test_a_run_says_in_one_line_how_to_get_what_its_skipped_tests_need() -> None:
    reasons = ["Skipped: not installed: nginx", "Skipped: not installed: dig, dnsmasq", "no IPv6"]
    assert advice(reasons) == (
        "For the skipped tests: make peers, as root on Debian, installs dig, dnsmasq, nginx."
    )
    assert advice([CHISEL_MISSING]) == (
        "For the skipped tests: README, Working on it, says how to get chisel."
    )


def test_a_run_without_such_tests_says_nothing() -> None:
    assert advice([]) is None
    assert advice(["Skipped: this machine has no IPv6 loopback address"]) is None


def test_a_test_skips_without_its_program_and_runs_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lacking(*(program for program in PACKAGES if find(program))) is None
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert needs("curl").args == (True,)
    assert lacking("curl", "dig") == "not installed: curl, dig"


def test_tests_need_only_what_can_be_installed() -> None:
    with pytest.raises(AssertionError, match=r"does not know .'telnet'"):
        needs("telnet")


@pytest.mark.slow
def test_the_last_line_of_a_run_is_there(tmp_path: Path) -> None:
    test = tmp_path / "test_it.py"
    test.write_text(
        "import pytest\n"
        "from tests.conftest import *\n"
        "@pytest.mark.skipif(True, reason='not installed: dig')\n"
        "def test_it(): pass\n"
    )
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", tmp_path, test],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    *_, line, summary = done.stdout.splitlines()
    assert line == "For the skipped tests: make peers, as root on Debian, installs dig."
    assert "1 skipped" in summary


# ---- make peers, with the system's programs in a directory


def install(directory: Path, apt: str | None, *, root: bool) -> tuple[int, str]:
    """Run the script where nothing is there but an apt-get; return its status and what it says."""
    if apt is not None:
        program = directory / "apt-get"
        program.write_text(f"#!/bin/sh\n{apt}\n")
        program.chmod(0o755)
    code = (
        "import os, sys; from scripts import peers; "
        f"os.geteuid = lambda: {0 if root else 1000}; "
        f"peers.DAEMONS = {str(directory)!r}; "
        "sys.exit(peers.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": str(directory), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.slow
def test_what_is_missing_is_installed(tmp_path: Path) -> None:
    names = " ".join(PACKAGES)
    make = f'for p in {names}; do : >"{tmp_path}/$p"; /bin/chmod 755 "{tmp_path}/$p"; done'
    status, said = install(tmp_path, make, root=True)
    assert status == 0
    assert "installing curl ..." in said
    assert install(tmp_path, None, root=False) == (
        0,
        "All programs that tests talk to are there.\n",
    )


@pytest.mark.slow
def test_one_package_that_is_not_to_be_had_keeps_no_other_out(tmp_path: Path) -> None:
    make = (
        f'[ "$4" = pebble ] && {{ echo "no pebble"; exit 100; }}\n'
        f"for p in {' '.join(p for p in PACKAGES if p[:6] != 'pebble')}; "
        f'do : >"{tmp_path}/$p"; /bin/chmod 755 "{tmp_path}/$p"; done'
    )
    status, said = install(tmp_path, make, root=True)
    assert status == 1
    assert "no pebble\n" in said
    assert said.endswith(
        "Still missing: pebble, pebble-challtestsrv; their tests will be skipped.\n"
    )


@pytest.mark.slow
def test_others_than_root_are_told_the_command(tmp_path: Path) -> None:
    status, said = install(tmp_path, "exit 7", root=False)
    assert status == 1
    assert (
        "Only root can install: sudo apt-get install bash caddy chromium crun curl bind9-dnsutils "
        in said
    )


@pytest.mark.slow
def test_another_system_than_debian_is_told_the_names(tmp_path: Path) -> None:
    status, said = install(tmp_path, None, root=True)
    assert status == 1
    assert "Missing: bash, caddy, chromium, crun, curl, dig, " in said
    assert "There is no apt-get here" in said
