"""What is flooded: a server with users, and a bystander's tunnel through it."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from bench.bystander import Standpoint
from bench.choice import find_chisel
from bench.flood_kinds import Places
from bench.processes import LOOPBACK, free_ports
from bench.raw_peer import Address, Login
from bench.targets import Ports
from bench.ways import pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.flood_kinds import Needs
    from bench.ways import Opened, Tls

OURS, GO = "cotun-trio", "chisel"
HERE = Path(__file__).parent.parent
FRIEND = Login(user="friend", password="secret")
GUEST = Login(user="guest", password="guest")


@attrs.frozen(kw_only=True)
class Victim:
    """A program that can be server and client."""

    name: str
    command: list[str]
    options: tuple[str, ...] = ()
    """More of them for the server."""
    tls: Tls | None = None


@attrs.frozen(kw_only=True)
class Scene:
    """A server that carries a bystander's tunnel."""

    opened: Opened
    here: Standpoint
    places: Places


def ours(checkout: Path, *, workers: int, tls: Tls | None) -> Victim:
    """Return the cotun-trio of a checkout, with this Python."""
    # In its directory and first on its path, so that no other one is found.
    run = ["env", f"--chdir={checkout}", f"PYTHONPATH={checkout}"]
    return Victim(
        name=OURS,
        command=[*run, sys.executable, "-m", "cotun_trio"],
        options=() if workers == 1 else ("--workers", str(workers)),
        tls=tls,
    )


def chisel(*, tls: Tls | None) -> Victim | None:
    """Return the Go program, where it is there."""
    path = find_chisel()
    return None if path is None else Victim(name=GO, command=[path], tls=tls)


@contextlib.contextmanager
def on_scene(
    victim: Victim, needs: Needs, targets: Ports, directory: Path, *, record: int
) -> Iterator[Scene]:
    """Run a server that a kind of flood can be tried on, and a bystander's client."""
    port, socks, named, closed, *here = free_ports(4 + len(targets))
    places = Places(allowed=f"{LOOPBACK}:{targets.sink}", closed=f"{LOOPBACK}:{closed}")
    users = directory / f"users-{port}.json"
    write_users(users, places)
    server = [*victim.command, "server", "--host", LOOPBACK, "--port", str(port), "--socks5"]
    server += ["--authfile", str(users), *victim.options, *needs.options]
    client = [*victim.command, "client", "--auth", f"{FRIEND.user}:{FRIEND.password}"]
    scheme = "http"
    if victim.tls is not None:
        server += ["--tls-cert", victim.tls.cert, "--tls-key", victim.tls.key]
        client += ["--tls-ca", victim.tls.ca]
        scheme = "https"
    remotes = [f"{LOOPBACK}:{a}:{LOOPBACK}:{b}" for a, b in zip(here, targets, strict=True)]
    remotes[-1] += "/udp"
    remotes += [f"{LOOPBACK}:{named}:localhost:{targets.echo}", f"{LOOPBACK}:{socks}:socks"]
    client += [f"{scheme}://{LOOPBACK}:{port}", *remotes]
    with pair(
        server, client, port, Ports(*here), socks, directory, unread=needs.unread_log
    ) as opened:
        yield Scene(
            opened=opened,
            here=Standpoint(
                echo=opened.ports.echo,
                named=named,
                server=Address(port=port, ca=victim.tls.ca if victim.tls else None, record=record),
                login=FRIEND,
            ),
            places=places,
        )


def write_users(path: Path, places: Places) -> None:
    """Write a users file: one who may do everything, and a guest who may do little."""
    may = [f"^{re.escape(target)}$" for target in (places.allowed, places.closed)]
    users = {f"{FRIEND.user}:{FRIEND.password}": [""], f"{GUEST.user}:{GUEST.password}": may}
    path.write_text(json.dumps(users))
    path.chmod(0o600)
