"""The admin interface's listener and connections: one request each.

Its limits are small, and its own: neither the tunnel's crowd nor its own can close it for the
other.  Readers of events, which stay, have places apart from the requests that take milliseconds.
"""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

import trio

from cotun_trio.admin import routes, token_file
from cotun_trio.admin.access import Gate, cookie_name, token_of_query
from cotun_trio.admin.answers import Stream, problem, text
from cotun_trio.admin.history import History
from cotun_trio.admin.lag import measure_lag
from cotun_trio.admin.page.page import Page
from cotun_trio.admin.places import Places
from cotun_trio.admin.streaming import send_stream
from cotun_trio.errors import CotunError, UsageError
from cotun_trio.escape import escape
from cotun_trio.http.front import Front, HeadError, respond_error, send_response
from cotun_trio.logs.events import record_events
from cotun_trio.net.accept import accept_forever
from cotun_trio.net.dial import open_listeners, show_addresses
from cotun_trio.net.sockets import close
from cotun_trio.net.transport import Transport
from cotun_trio.net.unix import listen_unix, remove_socket_file
from cotun_trio.protocol.addresses import join_host_port

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from cotun_trio.admin.answers import Answer
    from cotun_trio.admin.places import Place
    from cotun_trio.admin.watched import Watched
    from cotun_trio.http.front import Request
    from cotun_trio.logs import Context
    from cotun_trio.settings.admin import AdminAddress

MAX_CONNECTIONS = 64
"""Connections at a time.  A request is answered in milliseconds."""
MAX_READERS = 32
"""Readers of events at a time, besides those; more get 503."""
TOO_MANY = f"there are {MAX_READERS} readers of events already"
MAX_HEAD = 4 * 1024
"""Bytes of a request's head."""


class AdminInterface:
    """Answers about `watched` at `address`.  `open` it, `run` it, and `close` it.

    On TCP, a token is needed: that of the file at `token_path`, which is made if it is missing, or
    without a path one that is valid as long as this.  It answers on a socket at the path `besides`,
    too, if one can be made there.
    """

    def __init__(
        self,
        watched: Watched,
        address: AdminAddress | None,
        token_path: str | None,
        log: Context,
        *,
        besides: str | None = None,
    ) -> None:
        self._watched = watched
        self._history = History(watched, log)
        self._page = Page(watched, self._history)
        self._address = address
        self._token_path = token_path
        self._besides = besides
        self._log = log
        self._gates: dict[socket.socket, Gate] = {}
        self._paths: list[str] = []
        self._places = Places(MAX_CONNECTIONS)
        self._readers = 0
        self.addresses: list[str] = []
        """Where it listens: ``unix:/path``, or ``host:port`` with the real port; once it is open.
        """

    async def open(self) -> None:
        """Listen, and log where.  Raises `UsageError`."""
        record_events()
        address = self._address
        if address is not None and address.path:
            self._open_path(address.path)
        elif address is not None:
            await self._open_port(address.host, address.port)
        if self._besides is not None and self._besides not in self._paths:
            try:
                self._open_path(self._besides)
            except UsageError as error:
                self._log.warning("%s", error)

    def _open_path(self, path: str) -> None:
        self._gates[listen_unix(path)] = Gate(None, None)
        self._paths.append(path)
        self.addresses.append(f"unix:{path}")
        self._log.info("Answering administrators on unix:%s", escape(path))

    async def _open_port(self, host: str, port: int) -> None:
        token, made = token_file.new_token(), True
        if self._token_path is not None:
            token, made = token_file.read_or_make(self._token_path)
        sockets = await open_listeners(host, port)
        gate = Gate(token, join_host_port(host, sockets[0].getsockname()[1]).lower())
        self._gates = dict.fromkeys(sockets, gate)
        self.addresses = show_addresses(sockets)
        for each in self.addresses:
            if made:  # as Jupyter does; of a file that was there, its owner knows the token
                self._log.info("Answering administrators on http://%s/?token=%s", each, token)
            else:
                self._log.info("Answering administrators on http://%s", each)

    async def run(self) -> None:
        """Answer until cancelled."""
        async with trio.open_nursery() as nursery:

            def accepted(gate: Gate, sock: socket.socket, _peer: object) -> None:
                place = self._places.enter()
                if place is None:
                    close(sock)
                else:
                    nursery.start_soon(self._serve, sock, place, gate)

            nursery.start_soon(self._history.run)
            nursery.start_soon(measure_lag)
            for sock, gate in self._gates.items():
                nursery.start_soon(accept_forever, sock, partial(accepted, gate))

    def close(self) -> None:
        """Listen no more.  Can be called again."""
        for sock in self._gates:
            close(sock)
        for path in self._paths:
            remove_socket_file(path)
        self._gates, self._paths = {}, []

    async def _serve(self, sock: socket.socket, place: Place, gate: Gate) -> None:
        """Answer one connection; its errors are its own."""
        log = self._log
        transport = Transport(sock)
        stream = None
        try:
            with place.hold():
                stream = await self._answer(transport, place, gate)
            if stream is not None:
                self._readers += 1
                try:
                    await stream()
                finally:
                    self._readers -= 1
        except CotunError as error:
            log.debug("admin: %s", error)
        except Exception:
            log.exception("internal error, the admin connection is closed")
        finally:
            close(sock)

    async def _answer(
        self, transport: Transport, place: Place, gate: Gate
    ) -> Callable[[], Awaitable[None]] | None:
        """Answer one request; return what is still to run where the answer is a stream.

        Raises `CotunError`.
        """
        front = Front(transport, max_head=MAX_HEAD)
        try:
            request = await front.next_request()
        except HeadError as error:
            self._log.log(error.level, "%s", error)
            await respond_error(transport, error.status)
            return None
        with_body = request.method != b"HEAD"
        answer: Answer | Stream | None = gate.refusal(request) or self._with_cookie(request, gate)
        if answer is None:
            place.let_in()
            answer = await self._page.answer(request) or await routes.answer(
                self._watched, self._history, front, request
            )
        if isinstance(answer, Stream):
            if self._readers < MAX_READERS:
                return partial(send_stream, transport, answer, with_body=with_body)
            answer = problem(HTTPStatus.SERVICE_UNAVAILABLE, TOO_MANY)
        await send_response(
            transport,
            answer.status,
            answer.body,
            with_body=with_body,
            content_type=answer.content_type,
            more=answer.lines,
        )
        return None

    def _with_cookie(self, request: Request, gate: Gate) -> Answer | None:
        """Return the answer that keeps the token of an address as a cookie, if there is one.

        The next address has none then: it would be in the history of the browser, and on screens.
        """
        given = token_of_query(request)
        if given is None or request.method != b"GET" or not gate.is_token(given):
            return None
        path = request.path.decode("ascii", "replace")
        cookie = f"{cookie_name(request)}={given}; HttpOnly; SameSite=Strict; Path=/"
        return text("see there", HTTPStatus.SEE_OTHER, f"Location: {path}", f"Set-Cookie: {cookie}")
