"""For ``-vv``: a line in the log for each SSH message, with its name and its size.

A connection that is traced has another `Packetizer`, chosen when it is made; others pay nothing.
What a message contains is never shown: it may be a password.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cotun_trio.ssh import messages
from cotun_trio.ssh.packetizer import Packetizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cotun_trio.logs import Context
    from cotun_trio.ssh.packetizer import RekeyLimit
    from cotun_trio.ssh.scratch import Scratch

_NAMES = {
    number: name
    for name, number in reversed(vars(messages).items())
    if isinstance(number, int) and not name.startswith(("DISCONNECT_", "OPEN_", "_"))
}
_NAMES[30] = "KEX_INIT"  # which only paramiko makes (RFC 5656 section 7.1)


def packetizer_for(log: Context) -> Callable[[Scratch, RekeyLimit], Packetizer]:
    """Return the class for a new connection: the traced one, if `log` has traces."""
    return partial(TracedPacketizer, log) if log.traces else Packetizer


class TracedPacketizer(Packetizer):
    """A packetizer that logs each message."""

    def __init__(self, log: Context, scratch: Scratch, rekey_limit: RekeyLimit) -> None:
        super().__init__(scratch, rekey_limit)
        self._log = log

    def packets(self, data: memoryview) -> Iterator[memoryview]:
        """See `Packetizer`."""
        for payload in super().packets(data):
            self._log.trace("received SSH %s", _show(payload))
            yield payload

    def send_payload(self, payload: bytes) -> None:
        """See `Packetizer`."""
        self._log.trace("sent SSH %s", _show(payload))
        super().send_payload(payload)

    def seal_data(self, recipient: int, count: int) -> memoryview:
        """See `Packetizer`."""
        self._log.trace("sent SSH CHANNEL_DATA to channel %d, %d bytes of data", recipient, count)
        return super().seal_data(recipient, count)


def _show(payload: bytes | memoryview) -> str:
    if not payload:
        return "message without a type"
    number = payload[0]
    return f"{_NAMES.get(number, f'message of type {number}')}, {len(payload)} bytes"
