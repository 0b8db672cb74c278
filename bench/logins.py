"""Measure logins: what a stranger can learn from their time, and what a guesser costs others.

* Whether a user exists must not show: logins of an unknown user and with a wrong password,
  interleaved, are compared by their medians and by the share of pairs in which one is the slower
  (0.5 where they are alike), for plain passwords and for each kind of hash.
* 1000 wrong logins from one address, while another address logs in: how much slower is that?
* A pattern that keeps other regular expressions busy for ever, against 50,000 characters.

Logs in on the loopback interface only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

from cotun_trio.access.access_list import AccessList
from cotun_trio.access.credentials import Credentials
from cotun_trio.access.passwords import hash_password
from cotun_trio.client.client import Client
from cotun_trio.client.session import ClientSession
from cotun_trio.errors import CotunError
from cotun_trio.protocol.dialect import CHISEL
from cotun_trio.settings import ClientSettings, ServerUrl
from cotun_trio.websocket.wire import Wire

GUESSES = 1000
HERE, THERE = "127.0.0.1", "127.0.0.2"


class OneLogin(Client):
    """A client that logs in once, and is content with that."""

    def session_opened(self, session: ClientSession) -> None:
        """End the session: it has been let in."""
        super().session_opened(session)
        session.fail(CotunError("done"))


async def log_in(url: str, password: str, *, user: str = "alice", source: str = HERE) -> float:
    """Return how many seconds a login takes, from the connection to the answer."""
    server = ServerUrl.parse(url)
    auth = Credentials(user, password)
    client = OneLogin(ClientSettings(server=server, remotes=(), auth=auth))
    started = time.perf_counter()
    with socket.socket() as sock:
        sock.bind((source, 0))
        sock.connect((server.host, server.port))  # at once, on the loopback interface
        wire = Wire(sock, client.scratch.read, client=True)
        with contextlib.suppress(CotunError):  # always: it is refused, or done
            session = ClientSession(client, server, wire, CHISEL, client.log)
            await session.run(deadline=trio.current_time() + 30)
    return time.perf_counter() - started


def serve(
    users: dict[str, list[str]], directory: str, *options: str
) -> tuple[subprocess.Popen[str], str]:
    """Start a server; return it and its URL."""
    path = Path(directory) / "users.json"
    path.write_text(json.dumps(users))
    command = [sys.executable, "-m", "cotun_trio", "server", "--host", HERE, "--port", "0"]
    server = subprocess.Popen(
        [*command, "--authfile", str(path), *options], stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    for line in server.stderr:
        if "Listening on" in line:
            break
    else:
        sys.exit("the server has not started")
    # Nobody reads what it says from here on; the pipe must not be full one day.
    subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
    return server, line.split()[-1]


def show(seconds: list[float]) -> str:
    """Return the median, and the middle half."""
    low, middle, high = (value * 1000 for value in statistics.quantiles(seconds, n=4))
    return f"{middle:8.2f} ms ({low:.2f} - {high:.2f})"


async def unknown_or_wrong(kind: str, password: str, rounds: int, directory: str) -> None:
    """Compare the times of an unknown user and of a wrong password."""
    users = {f"alice:{password}": [""], f"bob:{password}": [""]}
    server, url = serve(users, directory, "--max-auth-failures", "0")
    unknown, wrong = [], []
    try:
        for _ in range(rounds):
            unknown.append(await log_in(url, "guess", user="nobody"))
            wrong.append(await log_in(url, "guess"))
    finally:
        server.kill()
    slower = statistics.mean(a > b for a, b in zip(unknown, wrong, strict=True))
    print(
        f"{kind:10} unknown user {show(unknown)}   wrong password {show(wrong)}   "
        f"unknown is slower in {slower:.2f} of {rounds}"
    )


async def beside_a_guesser(password: str, directory: str) -> None:
    """Compare logins from one address with and without a guesser at another."""
    server, url = serve({f"alice:{password}": [""]}, directory)
    beside = []
    try:
        quiet = [await log_in(url, "secret") for _ in range(20)]
        async with trio.open_nursery() as nursery:
            limit = trio.CapacityLimiter(90)

            async def guess() -> None:
                async with limit:
                    with contextlib.suppress(OSError):
                        await log_in(url, "guess", source=THERE)

            for _ in range(GUESSES):
                nursery.start_soon(guess)
            for _ in range(20):
                beside.append(await log_in(url, "secret"))
                await trio.sleep(0.05)
            started = time.perf_counter()
        print(
            f"login           {show(quiet)}   beside {GUESSES} wrong ones {show(beside)}   "
            f"the slowest {max(beside) * 1000:.0f} ms; all guesses were over "
            f"{time.perf_counter() - started:.1f} s later"
        )
    finally:
        server.kill()


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=200, help="logins of each kind (200)")
    rounds = parser.parse_args().rounds
    logging.disable()
    with tempfile.TemporaryDirectory() as directory:
        hashes = {
            "plain": "secret",
            "argon2id": hash_password("secret"),
            "bcrypt": hash_password("secret", "bcrypt"),
        }
        for kind, password in hashes.items():
            trio.run(
                unknown_or_wrong,
                kind,
                password,
                rounds if kind != "bcrypt" else rounds // 4,
                directory,
            )
        trio.run(beside_a_guesser, hashes["argon2id"], directory)
    rules = AccessList(["^(a+)+$"])
    started = time.perf_counter()
    assert not rules.allows("a" * 50_000 + "!")
    print(f"^(a+)+$ against 50,000 characters: {(time.perf_counter() - started) * 1000:.2f} ms")


if __name__ == "__main__":
    main()
