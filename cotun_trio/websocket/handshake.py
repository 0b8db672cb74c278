"""Becoming a WebSocket (RFC 6455 section 4), by trio-websocket's public functions.

Its reader task is started in the session's nursery, through a guard: its errors about bytes of
the peer become the failure of the wire, like all other errors there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import h11
import trio
import trio_websocket
import wsproto.utilities

from cotun_trio._version import __version__
from cotun_trio.errors import ConnectionLost, ProtocolError
from cotun_trio.escape import escape
from cotun_trio.websocket.answer import AnswerStream
from cotun_trio.websocket.trace import TracedStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from cotun_trio.logs import Context
    from cotun_trio.websocket.wire_protocol import WireProtocol

T = TypeVar("T")

_BUFFER = 64 * 1024
"""Bytes that trio-websocket asks for: of no effect, since the wire reads as it likes."""
USER_AGENT = f"cotun-trio/{__version__}"
"""The name of a client without one of its own (RFC 9110 section 10.1.5).  Firewalls for web
applications refuse requests without any."""


async def connect(
    nursery: trio.Nursery,
    wire: WireProtocol,
    *,
    host: str,
    path: str,
    protocol: str,
    headers: Sequence[tuple[str, str]] = (),
    log: Context | None = None,
) -> None:
    """Make a WebSocket of `wire`, as a client.

    `host` is the Host header, `protocol` the one token offered.  A User-Agent in `headers` takes
    the place of `USER_AGENT`.  `log` may have traces.  The reader goes on in `nursery`.  Raises
    `UpgradeRefused`, `ProtocolError` or `ConnectionLost`; when cancelled, the wire is of no use any
    more.
    """
    if not any(name.lower() == "user-agent" for name, _ in headers):
        headers = [("User-Agent", USER_AGENT), *headers]
    await _handshake(
        wire,
        lambda: trio_websocket.wrap_client_stream(
            _Guard(nursery, wire),  # type: ignore[arg-type]
            AnswerStream(_stream(wire, log)),  # type: ignore[arg-type]
            host,
            path,
            subprotocols=[protocol],
            extra_headers=[
                (name.encode("latin-1"), value.encode("latin-1")) for name, value in headers
            ],
            receive_buffer_size=_BUFFER,
        ),
    )


async def accept(
    nursery: trio.Nursery, wire: WireProtocol, *, protocol: str, log: Context | None = None
) -> None:
    """Make a WebSocket of `wire`, as a server, and agree to the protocol that was offered.

    Raises and is cancelled as `connect`.
    """

    async def upgrade() -> None:
        request = await trio_websocket.wrap_server_stream(
            _Guard(nursery, wire),  # type: ignore[arg-type]
            _stream(wire, log),  # type: ignore[arg-type]
            receive_buffer_size=_BUFFER,
        )
        await request.accept(subprotocol=protocol)

    await _handshake(wire, upgrade)


def _stream(wire: WireProtocol, log: Context | None) -> WireProtocol | TracedStream:
    """Return the stream for trio-websocket: the wire, or one that traces it."""
    return TracedStream(wire, log) if log is not None and log.traces else wire


async def _handshake(wire: WireProtocol, shake: Callable[[], Awaitable[T]]) -> None:
    """Run `shake` until it is done or the wire has ended: it would wait for ever then."""
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            await wire.ended.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        await shake()
        nursery.cancel_scope.cancel()
    if wire.failure is not None:
        raise wire.failure


class _Guard:
    """Starts trio-websocket's reader in a nursery, and makes a failure of its errors."""

    def __init__(self, nursery: trio.Nursery, wire: WireProtocol) -> None:
        self._nursery = nursery
        self._wire = wire

    def start_soon(self, reader: Callable[[], Awaitable[Any]]) -> None:
        self._nursery.start_soon(self._run, reader)

    async def _run(self, reader: Callable[[], Awaitable[Any]]) -> None:
        try:
            await reader()
        except (
            trio_websocket.HandshakeError,
            trio_websocket.ConnectionClosed,
            wsproto.utilities.ProtocolError,
            h11.ProtocolError,
            ValueError,  # UnicodeError: headers that wsproto cannot decode
            LookupError,
        ) as error:
            self._wire.fail(ProtocolError(f"WebSocket: {escape(str(_first_fault(error)))}"))
        # However it ended, nothing is read any more.  When it was cancelled, the session is ending
        # for a reason of its own, and still has a goodbye to send.
        self._wire.fail(ConnectionLost("the WebSocket was closed"))


def _first_fault(error: Exception) -> BaseException:
    """Return the error that the peer made.

    trio-websocket answers a bad response as if it were a request, and stumbles over that.
    """
    fault: BaseException | None = error
    while not (fault is None or isinstance(fault, wsproto.utilities.RemoteProtocolError)):
        fault = fault.__context__
    return fault or error
