"""Names of what a cotun-trio end can do beyond the version that knew no names.

The client sends its names in the config request, as ``"Extensions": ["datagram-runs"]`` beside its
identity, and the server answers in the reply with those that it knows as well (`config`,
`config_reply`).  From then on, and only then, both use them.  An end that sends no names, as a Go
peer or an old version, has none.  Unknown names do no harm: they are of a later version.

* ``datagram-runs``: UDP channels that are opened from then on, by either end, have the form of
  `datagram_runs` in place of gob.
* ``visitors``: the target of a channel may have the addresses of its visitor behind it
  (`visitor_address`), and a server lets in those visitors only whom the client allows (``Allow`` in
  `config`).
"""

from cotun_trio.protocol.peer_json import Fields, JsonError, take

DATAGRAM_RUNS = "datagram-runs"
VISITORS = "visitors"
OURS = (DATAGRAM_RUNS, VISITORS)
"""The names that this version knows."""
MAX_NAMES = 64
"""Names in a list."""


def read_extensions(fields: Fields) -> tuple[str, ...]:
    """Return those of `OURS` that are in the list ``Extensions`` of an object.

    Raises `JsonError` where it is no list of strings, or too long.
    """
    names = take(fields, "Extensions", [])
    if len(names) > MAX_NAMES:
        raise JsonError(f"more than {MAX_NAMES} Extensions")
    if not all(isinstance(name, str) for name in names):
        raise JsonError("an extension that is no string")
    return tuple(name for name in OURS if name in names)
