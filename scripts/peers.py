"""The programs of others that tests talk to, and how they get here: ``make peers``.

The tests skip where one is missing.  The Go original ``chisel`` is no package of Debian's: README,
under "Working on it", says how to get it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

PACKAGES = {
    "bash": "bash",
    "caddy": "caddy",
    "chromium": "chromium",
    "crun": "crun",
    "curl": "curl",
    "dig": "bind9-dnsutils",
    "dnsmasq": "dnsmasq-base",
    "fish": "fish",
    "git": "git",
    "groff": "groff",
    "haproxy": "haproxy",
    "lintian": "lintian",
    "make": "make",
    "man": "man-db",
    "microsocks": "microsocks",
    "mmdebstrap": "mmdebstrap",
    "nginx": "nginx-light",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "pebble": "pebble",
    "pebble-challtestsrv": "pebble",
    "pg_createcluster": "postgresql",
    "pipx": "pipx",
    "promtool": "prometheus",
    "psql": "postgresql-client",
    "redis-server": "redis-server",
    "rpm": "rpm",
    "squid": "squid",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "systemd-analyze": "systemd",
    "systemd-nspawn": "systemd-container",
    "tinyproxy": "tinyproxy",
    "unshare": "util-linux",
    "zsh": "zsh",
}
"""Debian's package for each program."""


DAEMONS = "/usr/sbin:/sbin"
"""Where daemons are, which is often not on a user's PATH."""


def find(program: str) -> str | None:
    """Return the path of a program; None where it is not there."""
    return shutil.which(program) or shutil.which(program, path=DAEMONS)


def missing() -> list[str]:
    """Return the programs that are not there."""
    return [program for program in PACKAGES if find(program) is None]


def install(package: str) -> bool:
    """Install a package; return whether that worked, and say why not."""
    print(f"installing {package} ...", flush=True)
    return apt("install", "-y", package)


def apt(*words: str) -> bool:
    """Run apt-get, which says something only where it fails; return whether it did not."""
    done = subprocess.run(
        ["apt-get", "-qq", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stdout.strip(), file=sys.stderr)
    return done.returncode == 0


def main() -> int:
    """Install what is missing; return the exit status, 1 where something still is."""
    wanted = missing()
    if not wanted:
        print("All programs that tests talk to are there.")
        return 0
    packages = list(dict.fromkeys(PACKAGES[program] for program in wanted))
    print(f"Missing: {', '.join(wanted)}.")
    if shutil.which("apt-get") is None:
        print("There is no apt-get here: install them as this system does it.", file=sys.stderr)
        return 1
    if os.geteuid() != 0:
        print(f"Only root can install: sudo apt-get install {' '.join(packages)}", file=sys.stderr)
        return 1
    apt("update")
    for package in packages:  # one by one: a release of Debian may not have all of them
        install(package)
    if still := missing():
        print(f"Still missing: {', '.join(still)}; their tests will be skipped.", file=sys.stderr)
    return int(bool(still))


if __name__ == "__main__":
    sys.exit(main())
