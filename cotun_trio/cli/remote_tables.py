"""Remotes in a configuration file: texts as on the command line, or tables with their options.

Both of these are the same remote::

    remote = ["R:80:web:8080,proxy=v2,allow=10.0.0.0/8"]

    [[client.remote]]
    remote = "R:80:web:8080"
    proxy = "v2"
    allow = ["10.0.0.0/8"]
"""

from __future__ import annotations

from typing import Any

from cotun_trio.errors import UsageError
from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import RemoteError
from cotun_trio.protocol.remote_options import RemoteOptions

KEYS = ("remote", "proxy", "allow")


def write_out_remotes(table: dict[str, Any], where: str) -> None:
    """Put a text in place of each remote that is a table, in the table of a command.

    Raises `UsageError`, which says `where`.  Other values are left for the reader of the texts.
    """
    remotes = table.get("remote")
    if isinstance(remotes, dict):
        remotes = [remotes]
    if isinstance(remotes, list):
        table["remote"] = [
            _as_text(each, f"{where}: remote") if isinstance(each, dict) else each
            for each in remotes
        ]


def _as_text(table: dict[str, Any], where: str) -> str:
    for key in table:
        if key not in KEYS:
            names = ", ".join(KEYS)
            raise UsageError(f"{where}: there is no key '{escape(key)}': there are {names}")
    remote = _texts(table, "remote", where)
    words = [f"{key}={text}" for key in ("proxy", "allow") for text in _texts(table, key, where)]
    if len(remote) != 1:
        raise UsageError(f"{where}: a table has the text of one remote")
    try:
        return f"{remote[0]}{RemoteOptions.read(words)}"
    except RemoteError as error:
        raise UsageError(f"{where}: {error}") from None  # the remote may have a password


def _texts(table: dict[str, Any], key: str, where: str) -> list[str]:
    """Return the values of a key, which is a text or a list of texts."""
    value = table.get(key, [])
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in texts):
        raise UsageError(f"{where}: {key} is a text, or a list of texts")
    return texts
