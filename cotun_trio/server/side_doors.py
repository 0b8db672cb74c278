"""Connections to a server that are never a session: health checks, challenges on port 80."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from cotun_trio._version import __version__
from cotun_trio.escape import escape
from cotun_trio.http.front import (
    Front,
    HeadError,
    respond,
    respond_error,
    respond_moved,
    respond_page,
)
from cotun_trio.net.transport import Transport

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from cotun_trio.logs import Context
    from cotun_trio.server.acme_certificates import AcmeCertificates


async def serve_health(sock: socket.socket, not_ready: Callable[[], str | None]) -> None:
    """Answer one request as if there were no back end; and ``/ready``, for balancers.

    That is 503 where `not_ready` has a reason to send new clients elsewhere.  Raises `CotunError`.
    """
    transport = Transport(sock)
    try:
        request = await Front(transport).next_request()
        if request.path != b"/ready":
            await respond(transport, request, __version__)
        elif (reason := not_ready()) is None:
            await respond_page(transport, request, "OK\n")
        else:
            status = HTTPStatus.SERVICE_UNAVAILABLE
            await respond_page(transport, request, f"{reason}\n", status)
    except HeadError as error:
        await respond_error(transport, error.status)


async def serve_challenge(
    sock: socket.socket, certificates: AcmeCertificates, log: Context
) -> None:
    """Answer one request: an authority's with its challenge, others with the way to HTTPS.

    Raises `CotunError`.
    """
    transport = Transport(sock)
    try:
        request = await Front(transport).next_request()
        log.debug("%s %s", request.method.decode(), escape(request.target))
        host = b"".join(request.values(b"host")).decode("latin-1").partition(":")[0].lower()
        page = certificates.pages.get(request.path.decode("latin-1"))
        if page is not None:
            await respond_page(transport, request, page)
        elif host in certificates.domains:
            await respond_moved(transport, request, host)
        else:
            await respond_error(transport, HTTPStatus.NOT_FOUND)
    except HeadError as error:
        await respond_error(transport, error.status)
