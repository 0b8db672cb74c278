"""Modules that libraries import and our programs never use.

Only a program may call this, before it imports them: as a library we leave the process as it is.
"""

import sys

UNUSED = ("invoke",)
"""paramiko runs the ``Match exec`` of an ssh_config with it, and does without where it is missing:
50 ms of 320 until the programs are there, and 5 MB of 51."""


def leave_out() -> None:
    """Have these modules found missing, unless they are there already."""
    for name in UNUSED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
