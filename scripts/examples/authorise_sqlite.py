"""A server that asks a database who may have what.

    authorise_sqlite.py rules.db [PORT]

``rules.db`` has the table ``rules`` with a user and a pattern of SQLite's GLOB in each row, as in

    CREATE TABLE rules (user TEXT, pattern TEXT);
    INSERT INTO rules VALUES ('alice', 'db.internal:5432'), ('alice', 'R:*:80??');

It is read for each decision, so a change counts at once.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing

import trio

import cotun_trio


def allowed(path: str, user: str, remote: str) -> bool:
    """Return whether there is a rule."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        query = "SELECT 1 FROM rules WHERE user = ? AND ? GLOB pattern"
        return database.execute(query, (user, remote)).fetchone() is not None


async def main(path: str, port: int) -> None:
    """Serve until interrupted."""

    async def authorise(user: str, peer: str, remote: str) -> str | None:
        if await trio.to_thread.run_sync(allowed, path, user, remote):
            return None
        print(f"{user} from {peer} wanted {remote}", flush=True)
        return f"there is no rule by which {user} may have {remote}"

    settings = cotun_trio.ServerSettings(port=port, auth=("alice", "secret"), reverse=True)
    async with cotun_trio.open_server(settings, authorise=authorise) as server:
        print(f"http://{server.addresses[0]} {server.fingerprint}", flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    try:
        trio.run(main, sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    except* KeyboardInterrupt:
        pass
