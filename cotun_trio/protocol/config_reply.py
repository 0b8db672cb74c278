"""The answer to a config request: where the reverse remotes listen, the `extensions` that both ends
have, and the server's identity, as raw JSON.

A server sends it only to a client whose request has an identity (`config`): a Go client takes any
payload for an error text, so for it an empty one says yes.
"""

import json

import attrs

from cotun_trio.errors import ProtocolError
from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import RemoteError
from cotun_trio.protocol.config import MAX_REMOTES, take_identity
from cotun_trio.protocol.extensions import read_extensions
from cotun_trio.protocol.peer_json import JsonError, parse_object, take
from cotun_trio.protocol.target import Target


@attrs.frozen
class ConfigReply:
    """A server's answer to a config request that it grants."""

    addresses: tuple[str, ...]
    """``host:port`` or ``unix:/path`` for each reverse remote, in the order of the request.

    The port is the real one, also where the remote says 0.
    """
    extensions: tuple[str, ...] = ()
    """Those that the client has asked for, and the server has as well."""
    node: str = ""
    """The server's identity: a random number of this run of it, up to 64 hexadecimal digits, the
    same in all its workers.  By it, a client with several connections tells servers apart that have
    one address or one host key.  Empty from a version that does not tell."""

    def encode(self) -> bytes:
        """Return the payload."""
        fields: dict[str, object] = {"Addresses": self.addresses}
        if self.extensions:
            fields["Extensions"] = self.extensions
        if self.node:
            fields["Node"] = self.node
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, payload: bytes) -> "ConfigReply":
        """Return the reply in `payload`, or raise `ProtocolError`.

        The caller bounds the size of the payload, and compares the number of addresses with that
        of its remotes.
        """
        try:
            fields = parse_object(payload)
            if "addresses" not in fields:
                raise JsonError("no Addresses")
            addresses = take(fields, "Addresses", [])
            if len(addresses) > MAX_REMOTES:
                raise JsonError(f"more than {MAX_REMOTES} addresses")
            checked = tuple(map(_check_address, addresses))
            return cls(checked, read_extensions(fields), take_identity(fields, "Node"))
        except (JsonError, RemoteError) as error:
            raise ProtocolError(f"config reply: {error}") from error


def _check_address(value: object) -> str:
    if not isinstance(value, str):
        raise JsonError("an address that is no string")
    # An address to listen on has the form of one to dial; but in full, and without a protocol.
    address = Target.parse(value)
    if address.udp or address.socks or address.address != value:
        raise JsonError(f"'{escape(value)}' is not an address")
    return value
