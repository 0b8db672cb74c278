"""What stands around a flooded server: a back end, and a name server that never answers."""

from __future__ import annotations

import contextlib
import os
import random
import select
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

from bench.processes import BenchError
from bench.targets import serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

DNS = 53
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
BIND = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'


def be_back_end(port: Connection) -> None:
    """Answer each HTTP request, and keep the connection."""

    def answer(sock: socket.socket) -> bool:
        requests = sock.recv(65536).count(b"\r\n\r\n")
        return requests > 0 and sock.send(RESPONSE * requests) > 0

    serve(port, select.EPOLLIN, answer)


@contextlib.contextmanager
def silent_name_server(directory: Path) -> Iterator[list[str]]:
    """Give the words before a command that has names looked up where nobody answers.

    The command sees another resolv.conf(5) than everybody else, in a mount namespace of its own.
    Raises `BenchError` where that cannot be had.
    """
    unshare = shutil.which("unshare")
    if os.geteuid() != 0 or unshare is None:
        raise BenchError("takes root, and unshare(1)")
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        address = f"127.{random.randrange(1, 255)}.{random.randrange(255)}.53"
        try:
            sock.bind((address, DNS))  # nobody reads there
        except OSError as error:
            raise BenchError(f"no name server at {address}: {error.strerror}") from None
        configuration = directory / f"resolv-{address}.conf"
        configuration.write_text(f"nameserver {address}\n")
        words = [unshare, "--mount", "sh", "-c", BIND, str(configuration)]
        tried = subprocess.run([*words, "true"], capture_output=True, text=True, check=False)
        if tried.returncode:
            raise BenchError(f"no mount namespace: {tried.stderr.strip()}")
        yield words


def with_descriptors(count: int) -> list[str]:
    """Return the words before a command that is to have no more descriptors than `count`."""
    return ["sh", "-c", f'ulimit -n {count} && exec "$@"', "sh"]
