"""``cotun-trio check-auth``: the rights of a user in a users file, without a server."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cotun_trio.cli.app import app, warn
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import RemoteError
from cotun_trio.protocol.port_ranges import has_range
from cotun_trio.protocol.remote import Remote
from cotun_trio.protocol.target import Target

if TYPE_CHECKING:
    from cotun_trio.access.users import User

NOTES = """
An address is the target of a client: host:port, with /udp or without, socks,
socks:host:port for a target of the SOCKS proxy, unix:/path, or
R:[interface:]port for a reverse remote.

The exit status is 0 if all of them are allowed, 1 if one is not, and 2 where
the question makes no sense.
"""


@app.command(
    name="check-auth",
    help_epilogue=NOTES,
    usage="Usage: cotun-trio check-auth --authfile PATH USER ADDRESS...",
)
def check_auth(
    user: Annotated[str, Parameter(name="USER", help="The name of a user in the file.")],
    /,
    *addresses: Annotated[
        str, Parameter(name="ADDRESS", required=True, help="A target of the user; see below.")
    ],
    authfile: Annotated[
        str, Parameter(metavar="PATH", help="The users file, as a server would have it.")
    ],
) -> int:
    """Show whether a user may reach addresses, and which pattern of the users file decides."""
    from cotun_trio.access.authfile import load_authfile
    from cotun_trio.access.hash_costs import measure, slow_hashes
    from cotun_trio.access.users import Users

    file = load_authfile(authfile)
    for warning in file.warnings:
        warn(warning)
    for _, warning in slow_hashes(measure(file.hashes, {}, time.thread_time), file.hashes):
        warn(warning)
    found = Users(file.users).find(user)
    if found is None:
        raise UsageError(f"the users file {escape(authfile)} has no user '{escape(user)}'")
    deciding = [_deciding(found, address) for address in addresses]
    for address, pattern in zip(addresses, deciding, strict=True):
        answer = "denied" if pattern is None else f"allowed by '{escape(pattern)}'"
        print(f"{escape(address)}: {answer}")
    sys.stdout.flush()
    return int(None in deciding)


def _deciding(user: User, address: str) -> str | None:
    """Return the pattern that allows `address`; None where none does.  Raises `UsageError`."""
    access = user.access
    try:
        if address.startswith("R:"):
            remote = f"{address}:localhost:1"  # where its connections would go, no list says
            if has_range(remote):
                raise RemoteError("ask about each port of a range")
            return access.deciding(Remote.parse(remote).access_address)
        if address.startswith("socks:"):
            target = Target.parse(address.removeprefix("socks:"))
            return access.deciding_by_socks(target.access_address)
        target = Target.parse(address)
    except RemoteError as error:
        raise UsageError(f"address '{escape(address)}': {error}") from None
    pattern = access.deciding(target.access_address)
    if pattern is None and target.udp:  # through the SOCKS proxy, if the server has one
        pattern = access.deciding_by_socks(target.access_address)
    return pattern
