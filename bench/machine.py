"""What the bench runs on: the machine, and the versions of everything."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import shutil
import ssl
import subprocess
from importlib.metadata import version
from pathlib import Path

from cryptography.hazmat.backends.openssl import backend

from bench.choice import find_chisel


def describe_machine() -> dict[str, str]:
    """Return what to know about a run, by name."""
    known = {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": f"{cpu_model()}, {len(os.sched_getaffinity(0))} cores",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_version()} ({ssl.OPENSSL_VERSION})",
        "cotun-trio": version("cotun-trio") + revision(),
        "trio": version("trio"),
        "cryptography": f"{version('cryptography')} ({backend.openssl_version_text()})",
    }
    if chisel := find_chisel():
        known["chisel"] = first_line(chisel, "--version")
    if ssh := shutil.which("ssh"):
        known["ssh"] = first_line(ssh, "-V")
    return known


def cpu_model() -> str:
    """Return what the processor calls itself."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def revision(checkout: Path = Path(__file__).parent) -> str:
    """Return the commit that the code of a checkout is from, where git knows it."""
    git = shutil.which("git")
    found = git and first_line(git, "-C", str(checkout), "rev-parse", "--short", "HEAD")
    return f" ({found})" if found and re.fullmatch("[0-9a-f]+", found) else ""


def first_line(*command: str) -> str:
    """Return the first line that a program says."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.stdout.partition("\n")[0].strip()
