"""OpenSSH as a way to the targets."""

from __future__ import annotations

import contextlib
import getpass
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from bench.processes import LOOPBACK, BenchError, free_ports
from bench.targets import STREAMS, Ports
from bench.ways import Way, pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.ways import Opened

CIPHER = "aes128-gcm@openssh.com"


@attrs.frozen(kw_only=True)
class Ssh(Way):
    """``ssh -L`` and ``-D``, to an sshd with keys of our own, whatever the user's settings are."""

    ssh: str
    sshd: str
    name: str = "ssh -L"

    @contextlib.contextmanager
    def opened(self, targets: Ports, directory: Path) -> Iterator[Opened]:
        """See `Way.opened`."""
        port, socks, *here = free_ports(2 + len(targets))
        for name in ("host", "user"):
            if not (directory / name).exists():
                make_key(directory / name)
        options = [
            f"ListenAddress={LOOPBACK}:{port}",
            f"HostKey={directory / 'host'}",
            f"AuthorizedKeysFile={directory / 'user.pub'}",
            "AuthenticationMethods=publickey",
            "StrictModes=no",  # a temporary directory is in one that everybody can write to
            "UsePAM=no",
            "PermitRootLogin=prohibit-password",
            "PidFile=none",
            f"Ciphers={CIPHER}",
        ]
        if os.geteuid() == 0:  # sshd insists, and only a boot script makes it
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        server = [self.sshd, "-D", "-e", "-f", "/dev/null"]
        client = [self.ssh, "-F", "none", "-N", "-c", CIPHER, "-p", str(port)]
        client += ["-i", str(directory / "user"), "-l", getpass.getuser(), LOOPBACK]
        client += ["-D", f"{LOOPBACK}:{socks}"]
        # Datagrams it does not know.
        for a, b in zip(here[:STREAMS], targets[:STREAMS], strict=True):
            client += ["-L", f"{LOOPBACK}:{a}:{LOOPBACK}:{b}"]
        for option in options:
            server += ["-o", option]
        for option in (
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "UserKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=no",
            "ExitOnForwardFailure=yes",
            "ControlPath=none",
            "LogLevel=ERROR",
        ):
            client += ["-o", option]
        with pair(server, client, port, Ports(*here), socks, directory) as opened:
            yield opened


def make_key(path: Path) -> None:
    """Make an SSH key without a password.  Raises `BenchError`."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError(f"ssh-keygen: {error}") from None
