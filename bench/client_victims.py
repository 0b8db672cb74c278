"""A client that is flooded by its server, and a bystander's tunnel in the same process."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from bench.attacker import Attacker
from bench.bystander import Standpoint
from bench.hostile import be_hostile
from bench.processes import (
    LOOPBACK,
    PATIENCE,
    BenchError,
    child,
    free_ports,
    running,
    wait_for_first_byte,
    wait_until_listening,
)
from bench.victims import FRIEND, Scene
from bench.ways import Opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.hostile_kinds import HostileKind
    from bench.targets import Ports
    from bench.victims import Victim

TWO_TUNNELS = Path(__file__).parent / "two_tunnels.py"
AUTH = f"{FRIEND.user}:{FRIEND.password}"


@contextlib.contextmanager
def on_client_scene(
    victim: Victim, kind: HostileKind, targets: Ports, directory: Path
) -> Iterator[Scene]:
    """Run a hostile server, and its client.  Raises `BenchError` where there is none of the kind.

    Where the bystander uses another tunnel, a good server, too.
    """
    echo, named, bait, port = free_ports(4)
    with contextlib.ExitStack() as stack:
        pipe = stack.enter_context(child(be_hostile, kind))
        hostile = f"http://{LOOPBACK}:{pipe.recv()}"
        ways = [f"{LOOPBACK}:{here}:{LOOPBACK}:{targets.echo}" for here in (echo, named)]
        if kind.other_tunnel:
            start_good_server(victim, port, directory, stack)
            lure = f"{LOOPBACK}:{bait}:{LOOPBACK}:{targets.echo}"
            good = f"http://{LOOPBACK}:{port}"
            command = [*victim.python, str(TWO_TUNNELS), hostile, lure, "--", good, *ways]
        else:
            command = [*victim.command, "client", "--auth", AUTH, hostile, *ways]
        client = stack.enter_context(running(command, directory / f"client-{echo}.log"))
        wait_for_first_byte(echo, client)
        if kind.other_tunnel:  # there has to be a channel, to say something about
            wait_for_first_byte(bait, client)
            stack.enter_context(socket.create_connection((LOOPBACK, bait), timeout=PATIENCE))
        opened = Opened(
            ports=targets._replace(echo=echo), client=client, client_family=client.family()
        )
        yield Scene(
            opened=opened,
            victim=client,
            here=Standpoint(echo=echo, named=named),
            attacking=lambda _crowd: contextlib.nullcontext(Attacker(pipe)),
        )


def start_good_server(
    victim: Victim, port: int, directory: Path, stack: contextlib.ExitStack
) -> None:
    """Run a server that floods nobody."""
    if not victim.python:
        raise BenchError("it cannot have two tunnels in one process")
    command = [*victim.command, "server", "--host", LOOPBACK, "--port", str(port), "--auth", AUTH]
    server = stack.enter_context(running(command, directory / f"server-{port}.log"))
    wait_until_listening(port, server)
