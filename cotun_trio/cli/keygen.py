"""``cotun-trio server --keygen``: a new host key, or that of a seed."""

from __future__ import annotations

import os
import sys

from cotun_trio.errors import UsageError
from cotun_trio.escape import escape


def generate_key(path: str, *, seed: str | None, force: bool) -> None:
    """Write the key of ``--keygen``.  Raises `UsageError`."""
    from cotun_trio.access.fingerprints import fingerprint
    from cotun_trio.access.host_key_options import make_key
    from cotun_trio.access.key_files import write_key_file

    if not path or (path[0] == "-" and path != "-"):
        raise UsageError("--keygen needs the path of a file to write, or - to print the key")
    text, key, seed_from = make_key(seed, os.environ)
    if seed_from not in (None, "--key"):  # which may have been forgotten
        print(f"cotun-trio: this is the key of {seed_from}, not a new one", file=sys.stderr)
    if path == "-":
        try:
            print(text, end="", flush=True)
        except OSError as error:
            raise UsageError(f"cannot print the key: {error.strerror}") from None
    else:
        write_key_file(path, text, force=force)
        shown = fingerprint(key.asbytes())
        print(f"cotun-trio: wrote {escape(path)}, fingerprint {shown}", file=sys.stderr)
