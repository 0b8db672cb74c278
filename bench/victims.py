"""What is flooded: a server with users, and a bystander's tunnel through it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from bench.attacker import Orders, attacking
from bench.bystander import Standpoint
from bench.choice import find_chisel
from bench.flood_kinds import Places
from bench.processes import LOOPBACK, BenchError, child, free_ports
from bench.raw_peer import Address, Login
from bench.surroundings import be_back_end, silent_name_server, with_descriptors
from bench.targets import Ports, remotes
from bench.ways import pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from bench.attacker import Attacker
    from bench.flood_kinds import Kind, Needs
    from bench.processes import Program
    from bench.ways import Opened, Tls

OURS, GO = "cotun-trio", "chisel"
HERE = Path(__file__).parent.parent
FRIEND = Login(user="friend", password="secret")
GUEST = Login(user="guest", password="guest")
COSTLY = Login(user="costly", password="costly")
MEMORY, PASSES = 19_456, 64
"""KiB and passes of an argon2id hash that takes about a second."""
NAMES = r"^silent[0-9]+\.test:80$"
"""What a guest may ask for besides the places that there are."""


@attrs.frozen(kw_only=True)
class Victim:
    """A program that can be server and client."""

    name: str
    command: list[str]
    options: tuple[str, ...] = ()
    """More of them for the server."""
    tls: Tls | None = None
    python: tuple[str, ...] = ()
    """What runs a script with the same code, where that can be done."""

    @property
    def has_hashes(self) -> bool:
        """Whether its users file may have hashes for passwords."""
        return self.name == OURS


@attrs.frozen(kw_only=True)
class Scene:
    """A program that carries a bystander's tunnel, and its attacker."""

    opened: Opened
    victim: Program
    here: Standpoint
    attacking: Callable[[int], AbstractContextManager[Attacker]]
    """Gives the attacker, with so many connections, when it is ready."""


def ours(checkout: Path, *, workers: int) -> Victim:
    """Return the cotun-trio of a checkout, with this Python."""
    # In its directory and first on its path, so that no other one is found.
    python = ("env", f"--chdir={checkout}", f"PYTHONPATH={checkout}", sys.executable)
    return Victim(
        name=OURS,
        command=[*python, "-m", "cotun_trio"],
        python=python,
        options=() if workers == 1 else ("--workers", str(workers)),
    )


def chisel() -> Victim | None:
    """Return the Go program, where it is there."""
    path = find_chisel()
    return None if path is None else Victim(name=GO, command=[path])


@contextlib.contextmanager
def on_scene(
    victim: Victim, kind: Kind, targets: Ports, directory: Path, *, record: int
) -> Iterator[Scene]:
    """Run a server that a kind of flood can be tried on, and a bystander's client.

    Raises `BenchError` where something for it is not there.
    """
    needs = kind.needs
    if needs.costly_login and not victim.has_hashes:
        raise BenchError("it has no hashed passwords")
    port, socks, named, closed, *here = free_ports(4 + len(targets))
    places = Places(
        allowed=f"{LOOPBACK}:{targets.sink}",
        closed=f"{LOOPBACK}:{closed}",
        datagrams=f"{LOOPBACK}:{targets.datagrams}/udp",
        costly_user=COSTLY.user,
    )
    with contextlib.ExitStack() as stack:
        server = server_command(victim, needs, directory, stack)
        users = write_users(directory / f"users-{port}.json", places, costly=needs.costly_login)
        server += ["--host", LOOPBACK, "--port", str(port), "--socks5", "--authfile", str(users)]
        address = Address(port=port, ca=victim.tls.ca if victim.tls else None, record=record)
        client = client_command(victim, address, Ports(*here), targets)
        client += [f"{LOOPBACK}:{named}:localhost:{targets.echo}", f"{LOOPBACK}:{socks}:socks"]
        opened = stack.enter_context(
            pair(server, client, port, Ports(*here), socks, directory, unread=needs.unread_log)
        )
        login = COSTLY if needs.costly_login else FRIEND
        standpoint = Standpoint(echo=opened.ports.echo, named=named, server=address, login=login)
        orders = Orders(kind=kind, crowd=0, address=address, guest=GUEST, places=places)
        assert opened.server is not None
        yield Scene(
            opened=opened,
            victim=opened.server,
            here=standpoint,
            attacking=lambda crowd: attacking(attrs.evolve(orders, crowd=crowd)),
        )


def server_command(
    victim: Victim, needs: Needs, directory: Path, stack: contextlib.ExitStack
) -> list[str]:
    """Return how the server is started, without its address; what it needs is in `stack`."""
    command = [*victim.command, "server", *victim.options]
    if victim.tls is not None:
        command += ["--tls-cert", victim.tls.cert, "--tls-key", victim.tls.key]
    if needs.back_end:
        back_end = stack.enter_context(child(be_back_end)).recv()
        command += ["--backend", f"http://{LOOPBACK}:{back_end}"]
    if needs.silent_names:
        command = [*stack.enter_context(silent_name_server(directory)), *command]
    if needs.descriptors is not None:
        command = [*with_descriptors(needs.descriptors), *command]
    return command


def client_command(victim: Victim, address: Address, here: Ports, targets: Ports) -> list[str]:
    """Return how the bystander's client is started, with a remote for each target."""
    command = [*victim.command, "client", "--auth", f"{FRIEND.user}:{FRIEND.password}"]
    if victim.tls is not None:
        command += ["--tls-ca", victim.tls.ca]
    scheme = "http" if victim.tls is None else "https"
    return [*command, f"{scheme}://{LOOPBACK}:{address.port}", *remotes(here, targets)]


def write_users(path: Path, places: Places, *, costly: bool) -> Path:
    """Write a users file: one who may do everything, and a guest who may do little."""
    targets = (places.allowed, places.closed, places.datagrams.removesuffix("/udp"))
    may = [*(f"^{re.escape(target)}$" for target in targets), NAMES]
    users = {f"{FRIEND.user}:{FRIEND.password}": [""], f"{GUEST.user}:{GUEST.password}": may}
    if costly:
        users[f"{COSTLY.user}:{costly_hash(COSTLY.password)}"] = [""]
    path.write_text(json.dumps(users))
    path.chmod(0o600)
    return path


@functools.cache
def costly_hash(password: str) -> str:
    """Return a hash that it takes about a second to check."""
    argon2 = Argon2id(
        salt=os.urandom(16), length=32, iterations=PASSES, lanes=1, memory_cost=MEMORY
    )
    return argon2.derive_phc_encoded(password.encode())
