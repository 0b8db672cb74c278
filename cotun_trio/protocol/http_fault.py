"""Errors of h11 as text, without the line that is wrong: a password may be in it."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import h11

_QUOTED = re.compile(r""":? (?:bytearray\()?b?['"].*""", re.DOTALL)


def fault(error: "h11.ProtocolError") -> str:
    """Return what is wrong, such as ``illegal header line``, and nothing of what was sent."""
    return _QUOTED.sub("", str(error))
