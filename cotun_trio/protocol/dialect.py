"""The two spellings of one protocol: chisel's, and that of its fork cotun.

Nothing but names differs: the WebSocket token, the SSH version lines, and the channel type.
"""

import attrs

MARK = " cotun-trio"
"""A comment in our version line (RFC 4253 section 4.2): there is more behind it than in the Go
programs, which do not look at it."""


def is_cotun_trio(version_line: str) -> bool:
    """Return whether the peer with this version line is one of us."""
    return version_line.endswith(MARK)


@attrs.frozen
class Dialect:
    """The names that one family of peers goes by."""

    name: str
    token: str
    """The value of ``Sec-WebSocket-Protocol``: this token and nothing else, or Go refuses."""
    channel_type: bytes
    """Type of the channels that we open.  Peers of either family take any type."""

    @property
    def client_version(self) -> str:
        """The SSH version line of a client, without its line end."""
        return f"SSH-{self.token}-client"

    @property
    def server_version(self) -> str:
        """The SSH version line of a server, without its line end."""
        return f"SSH-{self.token}-server"


CHISEL = Dialect("chisel", "chisel-v3", b"chisel")
COTUN = Dialect("cotun", "costrict-v3", b"cotun")
DIALECTS = (CHISEL, COTUN)
"""All dialects, in the order in which a client tries them."""


def dialect_for_token(token: str) -> Dialect | None:
    """Return the dialect of a ``Sec-WebSocket-Protocol`` value, or None if it is not ours.

    The whole value has to match, case and all: that is how the Go servers compare it, and a list
    of tokens is no token.
    """
    for dialect in DIALECTS:
        if dialect.token == token:
            return dialect
    return None
