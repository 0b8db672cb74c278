"""Which ways there are, and which of them can be gone on this machine."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

from bench.openssh import Ssh
from bench.processes import LOOPBACK
from bench.ways import Direct, Tls, Tunnel

if TYPE_CHECKING:
    from pathlib import Path

    from bench.ways import Way

NAMES = (
    "direct",
    "cotun-trio",
    "chisel",
    "ours to chisel",
    "chisel to ours",
    "ssh -L",
    "cotun-trio tls",
    "chisel tls",
)


def find_chisel() -> str | None:
    """Return the path of chisel: ``$CHISEL``, or what PATH has."""
    return os.environ.get("CHISEL") or shutil.which("chisel")


def find_sshd() -> str | None:
    """Return the path of sshd, which wants to be called by its whole path."""
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def find_ways(directory: Path) -> tuple[list[Way], list[str]]:
    """Return the ways that can be gone here, and why the others cannot."""
    ours = [sys.executable, "-m", "cotun_trio"]
    ways: list[Way] = [Direct(), Tunnel(name="cotun-trio", client=ours, server=ours)]
    go = [path] if (path := find_chisel()) else None
    tls = make_certificate(directory)
    if go is not None:
        ways += [
            Tunnel(name="chisel", client=go, server=go),
            Tunnel(name="ours to chisel", client=ours, server=go),
            Tunnel(name="chisel to ours", client=go, server=ours),
        ]
    ssh, sshd = shutil.which("ssh"), find_sshd()
    if ssh and sshd:
        ways.append(Ssh(ssh=ssh, sshd=sshd))
    for name, program in (("cotun-trio tls", ours), ("chisel tls", go)):
        if program is not None and tls is not None:
            ways.append(
                Tunnel(name=name, client=program, server=program, tls=tls, against="chisel tls")
            )
    return ways, [
        *([] if go else ["chisel: it is not on PATH, and $CHISEL does not name it"]),
        *([] if ssh and sshd else [f"ssh -L: there is no {'sshd' if ssh else 'ssh'} here"]),
        *([] if tls else ["TLS: trustme is not installed (make .venv/installed-test)"]),
    ]


def make_certificate(directory: Path) -> Tls | None:
    """Make a certificate for the loopback address; None where trustme is not installed."""
    try:
        import trustme
    except ImportError:
        return None
    authority = trustme.CA()
    leaf = authority.issue_cert(LOOPBACK)
    ca, cert, key = (directory / name for name in ("ca.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(str(ca))
    cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(str(key))
    return Tls(ca=str(ca), cert=str(cert), key=str(key))
