"""The refusal of a config request: its reason, and whether it is final.

The payload is the reason as text, since a Go client shows it as it is.  To a client of our kind, a
server of our kind says behind the text that the refusal is a passing one: that a port is held, that
a hook has not answered.  Without that it is final.  A Go server says it by its text only.

To a client that has named the servers that it has sessions with (`config`), a server that is one of
them says that.
"""

from __future__ import annotations

import re

import attrs

NOT_NOW = b"\0not now"
"""The mark behind the text of a passing refusal: no text of ours has a NUL."""
SAME_SERVER = b"\0same server"
"""The mark behind the text of a server that the client has another session with."""
CANNOT_LISTEN = re.compile(rb"(?:[a-z]+(?:#[0-9]+)?: )*Server cannot listen on ")
"""The beginning of a Go server's text: another client may hold the port for a moment.  There, the
names of its loggers are in front, such as ``server: ``."""


@attrs.frozen
class ConfigRefusal:
    """A server's answer to a config request that it does not grant."""

    reason: bytes
    """The text, as the server wrote it."""
    passing: bool
    """Whether the same request can succeed later."""
    same_server: bool = False
    """Whether the reason is the client's other session with this server; it is passing, too."""

    def encode(self, *, marked: bool) -> bytes:
        """Return the payload; only a client of our kind has the kind `marked`."""
        if not (marked and self.passing):
            return self.reason
        return self.reason + (SAME_SERVER if self.same_server else NOT_NOW)

    @classmethod
    def decode(cls, payload: bytes) -> ConfigRefusal:
        """Return the refusal in `payload`; any bytes are one."""
        if payload.endswith(NOT_NOW):
            return cls(payload.removesuffix(NOT_NOW), passing=True)
        if payload.endswith(SAME_SERVER):
            return cls(payload.removesuffix(SAME_SERVER), passing=True, same_server=True)
        return cls(payload, passing=CANNOT_LISTEN.match(payload) is not None)
