"""OpenSSH's server, where it is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from scripts.peers import find
from tests.support.peers import lacking
from tests.support.programs import running
from tests.support.targets import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SSHD = find("sshd")
SSH_MISSING = lacking("ssh", "sshd", "ssh-keygen") if os.geteuid() == 0 else "sshd wants to be root"
"""Why a test cannot have one; None where it can."""


@contextlib.asynccontextmanager
async def running_sshd(directory: Path) -> AsyncIterator[tuple[int, list[str]]]:
    """Run Debian's sshd; give its port, and the options with which ssh gets in."""
    assert SSHD
    for name in ("host", "user"):
        await trio.run_process(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)]
        )
    shutil.copy(directory / "user.pub", directory / "authorized")
    Path("/run/sshd").mkdir(exist_ok=True)  # it will not start without
    port = free_port()
    config = directory / "config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {directory}/host\nPidFile none\n"
        f"AuthorizedKeysFile {directory}/authorized\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nPermitRootLogin yes\n"
    )
    async with running(SSHD, "-D", "-e", "-f", str(config)) as program:
        await program.wait_for("Server listening on")
        options = {
            "IdentityFile": f"{directory}/user",
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "BatchMode": "yes",
        }
        yield port, [f"-o{name}={value}" for name, value in options.items()]
