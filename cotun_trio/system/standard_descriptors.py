"""Standard input, output and error, where the program was started without them.

Some supervisors, and ``2>&-`` in a shell, start a program with the descriptors 0 to 2 closed.  The
next files and sockets that it opens have these numbers then: what is meant for standard error goes
into a connection, and a child gets a socket as its standard input.  So ``/dev/null`` takes the
places that are free, before anything else is opened or imported.
"""

import os
import sys


def open_missing() -> None:
    """Open ``/dev/null`` on each of the descriptors 0 to 2 that is closed.

    It changes the whole process, and so only a program may call this, as the first thing it does.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDONLY if descriptor == 0 else os.O_WRONLY)
            assert opened == descriptor, "the lowest one that is free"
            os.set_inheritable(descriptor, True)  # as the others are
    # Python has None for these: print() would write to standard output for standard error.
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
