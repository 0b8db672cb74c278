"""``cotun-trio hash-password``: the hash of a password, for a users file."""

from __future__ import annotations

import getpass
import sys
import warnings
from typing import Annotated

from cyclopts import Parameter

from cotun_trio.access.passwords import Scheme
from cotun_trio.access.passwords import hash_password as hash_of
from cotun_trio.cli.app import app
from cotun_trio.errors import UsageError

NOTES = """
On a terminal it asks for the password twice, and shows nothing of it.  Where
standard input is something else, its first line is the password.

With USER, the output is USER:HASH, as a users file has it.
"""


@app.command(name="hash-password", help_epilogue=NOTES)
def hash_password(
    user: Annotated[
        str | None, Parameter(name="USER", show_default=False, help="Put this name in front.")
    ] = None,
    /,
    *,
    scheme: Annotated[
        Scheme, Parameter(help="bcrypt looks at the first 72 bytes of a password only.")
    ] = "argon2id",
) -> int:
    """Hash a password, so that a users file need not have it as it is."""
    if user is not None and (":" in user or not user.isprintable()):
        raise UsageError("a user's name has no colon and only printable characters")
    if sys.stdin is None:  # a shell's <&-
        raise UsageError("there is no standard input to read a password from")
    password = _ask() if sys.stdin.isatty() else _read()
    if not password:
        raise UsageError("the password is empty")
    made = hash_of(password, scheme)
    try:
        print(made if user is None else f"{user}:{made}", flush=True)
    except OSError as error:
        raise UsageError(f"cannot print the hash: {error.strerror}") from None
    return 0


def _ask() -> str:
    """Return a password that is typed on the terminal twice, unseen."""
    try:
        with warnings.catch_warnings():
            # Where it cannot turn the echo off it would go on with a warning.
            warnings.simplefilter("error", getpass.GetPassWarning)
            password = getpass.getpass("Password: ")
            if getpass.getpass("Again: ") != password:
                raise UsageError("the two are not the same")
    except getpass.GetPassWarning:
        raise UsageError("this terminal would show the password: use a pipe") from None
    except UnicodeError:
        raise UsageError("the password is not UTF-8") from None
    except EOFError:
        print(file=sys.stderr)
        raise UsageError("no password") from None
    except KeyboardInterrupt:
        print(file=sys.stderr)  # the prompt has left the cursor behind it
        sys.exit(130)  # as a shell says that SIGINT ended a program
    return password


def _read() -> str:
    """Return the first line of standard input."""
    # Not as text: a locale has no say in what a client sends, nor is a CR within it a line's end.
    line = sys.stdin.buffer.readline().removesuffix(b"\n").removesuffix(b"\r")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise UsageError("the password is not UTF-8") from None
