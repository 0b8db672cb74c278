"""A fleet on this machine: Redis, three nodes, HAProxy and a client; then its node is killed.

A file is fetched through a node that the client is not connected to, by one hop.  Then the client's
own node is killed, without a word to anybody, and the file is fetched again.  The nodes are on
127.0.0.1, 127.0.0.2 and 127.0.0.3, and HAProxy runs by ``scripts/fleet/haproxy.cfg``, on 127.0.0.9
for visitors.

On a terminal it stays up until Ctrl-C; elsewhere it ends with the result.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import attrs

from scripts.demo import PATIENCE, Program, file_server
from scripts.peers import find

SIZE = 8 * 1024 * 1024
HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
BALANCER = "127.0.0.9"
BEGAN = time.perf_counter()
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Visitors of this machine go by no proxy, whatever the environment says."""


def tell(text: str) -> None:
    """Print something, after the seconds since the beginning."""
    print(f"{time.perf_counter() - BEGAN:6.2f} s  {text}", flush=True)


def free_ports(count: int) -> list[int]:
    """Return ports that are free at present."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((HOSTS[0], 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in sockets]


def haproxy_config(*, clients: int, visitors: str, node: int, health: int) -> str:
    """Return ``scripts/fleet/haproxy.cfg`` for nodes on 127.0.0.1 to 127.0.0.3.

    Clients come to the port `clients` of 127.0.0.1, and visitors to the ports `visitors` of
    `BALANCER`.  `node` is the port of the nodes, and `health` that of their health.
    """
    config = (Path(__file__).parent / "fleet" / "haproxy.cfg").read_text()
    for there, here in {
        "bind :80\n": f"bind {HOSTS[0]}:{clients}\n",
        "bind :10000-10999\n": f"bind {BALANCER}:{visitors}\n",
        "10.0.0.": "127.0.0.",
        ":8080\n": f":{node}\n",
        "port 8081 ": f"port {health} ",
    }.items():
        assert there in config, there
        config = config.replace(there, here)
    return config


def fetch(url: str) -> str | None:
    """Return the SHA-256 of what is there; None where it cannot be fetched."""
    with contextlib.suppress(OSError), NO_PROXY.open(url, timeout=PATIENCE) as response:
        return hashlib.sha256(response.read()).hexdigest()
    return None


def fetch_until_there(url: str, wanted: str) -> None:
    """Fetch a file, again and again until it is there; say how long that took."""
    began, tries = time.perf_counter(), 1
    while (got := fetch(url)) is None:
        if time.perf_counter() > began + PATIENCE:
            sys.exit(f"{url} could not be fetched for {PATIENCE:g} s")
        tries += 1
        time.sleep(0.02)
    if got != wanted:
        sys.exit(f"{url} is another file: {got}")
    seconds = time.perf_counter() - began
    tell(f"fetched {url}: {SIZE // 2**20} MiB, the same SHA-256, {seconds:.2f} s, {tries} tries")


def programs() -> tuple[str, str]:
    """Return the paths of Redis and HAProxy, or end."""
    found = {name: find(name) for name in ("redis-server", "haproxy")}
    if missing := [name for name, path in found.items() if path is None]:
        sys.exit(f"not installed: {', '.join(missing)}.  make peers installs them, as root.")
    redis, haproxy = map(str, found.values())
    return redis, haproxy


@attrs.frozen
class Ports:
    """Ports of this machine: of Redis, of each node, of its health, and of HAProxy."""

    redis: int
    node: int
    health: int
    clients: int
    visitors: int

    @property
    def directory(self) -> str:
        """The URL of Redis."""
        return f"redis://{HOSTS[0]}:{self.redis}"

    @property
    def balancer(self) -> str:
        """The URL of HAProxy, for clients."""
        return f"http://{HOSTS[0]}:{self.clients}"

    def file(self, host: str) -> str:
        """Return the URL of the file for visitors of an address."""
        return f"http://{host}:{self.visitors}/file.bin"


def start_redis(stack: contextlib.ExitStack, program: str, ports: Ports, directory: Path) -> None:
    """Run Redis until the end of `stack`."""
    words = ["--port", str(ports.redis), "--bind", HOSTS[0], "--save", "", "--dir", str(directory)]
    redis = stack.enter_context(Program(*words, program=[program]))
    redis.wait_for("Ready to accept connections")
    tell(f"Redis    {ports.directory}")


def start_nodes(stack: contextlib.ExitStack, ports: Ports, directory: Path) -> dict[str, Program]:
    """Run the nodes until the end of `stack`; return them by their addresses."""
    key = directory / "fleet-key"
    key.write_text(secrets.token_hex())
    key.chmod(0o600)
    nodes = {}
    for host in HOSTS:
        nodes[host] = stack.enter_context(
            Program(
                *("server", "--host", host, "--port", str(ports.node), "--reverse"),
                *("--reverse-host", host, "--health-listen", f"{host}:{ports.health}"),
                *("--fleet", ports.directory, "--fleet-key", str(key)),
                *("--fleet-address", f"http://{host}:{ports.node}"),
            )
        )
    for host, node in nodes.items():
        node.wait_for("Listening on")
        tell(f"node     http://{host}:{ports.node}")
    return nodes


def start_haproxy(stack: contextlib.ExitStack, program: str, ports: Ports, directory: Path) -> None:
    """Run HAProxy until the end of `stack`."""
    config = directory / "haproxy.cfg"
    config.write_text(
        haproxy_config(
            clients=ports.clients,
            visitors=str(ports.visitors),
            node=ports.node,
            health=ports.health,
        )
    )
    stack.enter_context(Program("-db", "-f", str(config), program=[program]))
    tell(f"HAProxy  {ports.balancer} for clients, {BALANCER}:{ports.visitors} for visitors")


def owner_of(nodes: dict[str, Program]) -> str:
    """Return the host of the node that has the client: its line in the log may still be on the way.

    Nodes are clients of each other, too; they are users.
    """
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for host, node in nodes.items():
            if node.said("user=-: open, client"):
                return host
        time.sleep(0.05)
    sys.exit("this went wrong: no node has the client")


def main() -> None:
    """Run the demo."""
    redis, haproxy = programs()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        content = os.urandom(SIZE)
        wanted = hashlib.sha256(content).hexdigest()
        (directory / "www").mkdir()
        (directory / "www" / "file.bin").write_bytes(content)
        target = stack.enter_context(file_server(directory / "www"))
        ports = Ports(*free_ports(5))
        start_redis(stack, redis, ports, directory)
        nodes = start_nodes(stack, ports, directory)
        start_haproxy(stack, haproxy, ports, directory)

        remote = f"R:{ports.visitors}:127.0.0.1:{target}"
        retry = ("--min-retry-interval", "0s", "--max-retry-interval", "1s")
        client = stack.enter_context(Program("client", *retry, ports.balancer, remote))
        client.wait_for(r"Connected \(Latency")
        owner = owner_of(nodes)
        tell(f"client   connected by HAProxy, to the node on {owner}")

        others = [host for host in HOSTS if host != owner]
        for host in (*others, BALANCER):
            fetch_until_there(ports.file(host), wanted)
        nodes[owner].kill()
        tell(f"the node on {owner} is killed")
        for host in (*others, BALANCER):
            fetch_until_there(ports.file(host), wanted)
        if sys.stdin.isatty() and sys.stdout.isatty():
            print(f"\nStill up: try  curl {ports.file(BALANCER)}  and press Ctrl-C to end.")
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()


if __name__ == "__main__":
    main()
