"""The main job on real bytes: a file server, a tunnel to it, and a fetch through the tunnel.

Everything is a process or a thread of its own on the loopback interface, on ports that were free.
On a terminal it stays up until Ctrl-C; elsewhere it ends with the result.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SIZE = 64 * 1024 * 1024
PATIENCE = 30.0
"""Seconds for a program to say what we wait for."""


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files, and keeps its log to itself."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@contextlib.contextmanager
def file_server(directory: Path) -> Iterator[int]:
    """Serve `directory` over HTTP; give the port."""
    handler = functools.partial(QuietHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


OURS = (sys.executable, "-m", "cotun_trio")


class Program:
    """A process of our program, or of another one, and what it says."""

    def __init__(self, *arguments: str, program: Sequence[str] = OURS) -> None:
        self.lines: list[str] = []
        self._said = threading.Condition()
        environment = {k: v for k, v in os.environ.items() if k not in ("HOST", "PORT", "AUTH")}
        self._process = subprocess.Popen(
            [*program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        assert self._process.stdout is not None
        threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def _listen(self, stream: IO[str]) -> None:
        for line in stream:
            with self._said:
                self.lines.append(line.rstrip())
                self._said.notify_all()
        with self._said:
            self.lines.append("(it ended)")
            self._said.notify_all()

    def kill(self) -> None:
        """Kill it (SIGKILL)."""
        self._process.kill()

    def said(self, pattern: str) -> bool:
        """Return whether it has said `pattern`."""
        return any(re.search(pattern, line) for line in self.lines)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the first match of `pattern` in what the program says."""

        def find() -> re.Match[str] | None:
            return next(filter(None, (re.search(pattern, line) for line in self.lines)), None)

        with self._said:
            self._said.wait_for(lambda: find() or self.lines[-1:] == ["(it ended)"], PATIENCE)
            found = find()
        if found is None:
            sys.exit("\n".join(["this went wrong:", *self.lines]))
        return found


def main() -> None:
    """Run the demo."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        content = os.urandom(SIZE)
        (directory / "file.bin").write_bytes(content)
        target = stack.enter_context(file_server(directory))
        print(f"file server    http://127.0.0.1:{target}/file.bin ({SIZE // 2**20} MiB)")

        server = stack.enter_context(Program("server", "--host", "127.0.0.1", "--port", "0"))
        fingerprint = server.wait_for(r"Fingerprint (\S+)")[1]
        url = server.wait_for(r"Listening on (http://\S+)")[1]
        print(f"tunnel server  {url}")
        print(f"fingerprint    {fingerprint}")

        started = time.perf_counter()
        remote = f"127.0.0.1:0:127.0.0.1:{target}"
        client = stack.enter_context(Program("client", "--fingerprint", fingerprint, url, remote))
        local = client.wait_for(r"Listening on (\S+)")[1]
        client.wait_for(r"Connected \(Latency (\S+)\)")
        seconds = time.perf_counter() - started
        print(f"tunnel client  {local}, connected {seconds:.2f} s after its start")

        started = time.perf_counter()
        with urllib.request.urlopen(f"http://{local}/file.bin") as response:
            received = response.read()
        seconds = time.perf_counter() - started
        speed = len(received) / seconds / 1e6
        print(f"fetched        {len(received)} bytes in {seconds:.2f} s ({speed:.0f} MB/s)")
        sent, got = (hashlib.sha256(data).hexdigest() for data in (content, received))
        print(f"SHA-256        {sent} at the file server")
        print(f"               {got} at this end of the tunnel")
        if sent != got:
            sys.exit("the two differ")
        if sys.stdin.isatty() and sys.stdout.isatty():
            print(f"\nStill up: try  curl http://{local}/  and press Ctrl-C to end.")
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()


if __name__ == "__main__":
    main()
