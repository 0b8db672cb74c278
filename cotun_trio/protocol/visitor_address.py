"""The addresses of a visitor, behind the target of a channel: whom its connection comes from, and
where it has come in.

Between two ends that have the extension ``visitors`` (`extensions`), the type-specific data of a
channel open may be, after the target::

    localhost:22 NUL from=198.51.100.7:56324 NUL to=203.0.113.1:2222

No target has a NUL in it.  Words by other names are of a later version, and skipped.  A visitor on
a Unix socket has no address, and its channel has the target alone.
"""

from cotun_trio.errors import ProtocolError
from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import RemoteError
from cotun_trio.protocol.endpoints import Endpoint, Endpoints

MAX_WORDS = 512
"""Bytes behind a target: addresses have 53 each at most, with the port."""


def with_visitor(target: bytes, endpoints: Endpoints | None) -> bytes:
    """Return the data of a channel open to `target` for a visitor."""
    if endpoints is None:
        return target
    return b"%b\0from=%b\0to=%b" % (
        target,
        str(endpoints.source).encode("ascii"),
        str(endpoints.destination).encode("ascii"),
    )


def split_visitor(data: bytes) -> tuple[bytes, Endpoints | None]:
    """Return the target in the data of a channel open, and the addresses of its visitor, if any.

    The target is not parsed here: there are few of them, and a cache for that.  Raises
    `ProtocolError`.
    """
    target, nul, rest = data.partition(b"\0")
    if not nul:
        return target, None
    if len(rest) > MAX_WORDS:
        raise ProtocolError(f"over {MAX_WORDS} bytes behind a channel target")
    found: dict[bytes, bytes] = {}
    for word in rest.split(b"\0"):
        name, equals, value = word.partition(b"=")
        if not equals or name in found:
            raise ProtocolError(f"'{escape(word)}' behind a channel target")
        found[name] = value
    if b"from" not in found and b"to" not in found:
        return target, None
    try:
        ends = (Endpoint.parse(found.get(name, b"").decode("ascii")) for name in (b"from", b"to"))
        return target, Endpoints(*ends)
    except (RemoteError, UnicodeDecodeError) as error:
        raise ProtocolError(f"a visitor behind a channel target: {error}") from None
