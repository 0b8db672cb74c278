"""Users files, and raw clients that log in as one of their users."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from cotun_trio.access.credentials import Credentials
from cotun_trio.server import accounts
from tests.support.peer import peer_of
from tests.support.tunnel import running_server
from tests.support.watching import nothing_watched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from cotun_trio.server.server import Server
    from tests.support.peer import Peer

ALICE = Credentials("alice", "secret")
BOB = Credentials("bob", "hunter2")


class UsersFile:
    """A users file in a directory of the test's."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "users.json"

    def write(self, *others: Credentials, **lists: list[str]) -> None:
        """Let `others` do everything; name the lists of alice and of bob, to have them in it."""
        known = {"alice": ALICE, "bob": BOB}
        users = {known[name]: patterns for name, patterns in lists.items()}
        users |= {user: [""] for user in others}
        text = {f"{user.user}:{user.password}": patterns for user, patterns in users.items()}
        self.path.write_text(json.dumps(text, indent=1))
        self.path.chmod(0o600)


@contextlib.asynccontextmanager
async def server_with(file: UsersFile, **settings: Any) -> AsyncIterator[Server]:
    """Run a server with a users file that is there already, and that it reads when told to."""
    with nothing_watched(accounts):
        async with running_server(authfile=str(file.path), **settings) as server:
            yield server


@contextlib.asynccontextmanager
async def peer_as(user: Credentials, address: str, *remotes: str) -> AsyncIterator[Peer]:
    """Give a raw client that has logged in and has `remotes` accepted."""
    async with peer_of(address, "keyed") as peer:
        await peer.log_in(user.user, user.password)
        answer = await peer.send_config(*remotes)
        assert answer == b"\x51", answer  # REQUEST_SUCCESS, with nothing
        yield peer
