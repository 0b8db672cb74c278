"""The paths of the admin interface, and their answers.

``/health``
    whether the process answers.
``/ready``
    whether it carries new connections: 200, or 503 with the reason.
``/metrics``
    the figures for Prometheus, as OpenMetrics or in its older format.
``/api/v1/stats``, ``/api/v1/sessions``, ``/api/v1/sessions/N``
    the same as JSON; DELETE ends a session, with ``?reason=`` for its peer.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import parse_qs

import attrs

from cotun_trio._version import __version__
from cotun_trio.admin.answers import Answer, as_json, problem, text
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cotun_trio.admin.watched import Watched
    from cotun_trio.http.front import Request
    from cotun_trio.snapshot import SessionFigures

    Method: TypeAlias = Callable[[Watched, re.Match[str], Request], Awaitable[Answer]]

MAX_REASON = 200
"""Characters of a reason for a peer."""
KICKED = "ended by an administrator"


async def answer(watched: Watched, request: Request) -> Answer:
    """Return the answer to a request about `watched`."""
    path = request.path.decode("ascii", "replace")
    method = request.method.decode("ascii", "replace")
    for pattern, methods in _ROUTES:
        if (found := pattern.fullmatch(path)) is None:
            continue
        chosen = methods.get("GET" if method == "HEAD" else method)
        if chosen is None:
            allowed = ", ".join(sorted({*methods, "HEAD"}))
            detail = f"{escape(method)} is not for {escape(path)}"
            refused = problem(HTTPStatus.METHOD_NOT_ALLOWED, detail)
            return attrs.evolve(refused, headers=(f"Allow: {allowed}",))
        return await chosen(watched, found, request)
    return problem(HTTPStatus.NOT_FOUND, f"there is no {escape(path)}")


async def _health(_watched: Watched, _found: re.Match[str], _request: Request) -> Answer:
    return text("OK")


async def _ready(watched: Watched, _found: re.Match[str], _request: Request) -> Answer:
    reason = watched.not_ready
    return text("OK") if reason is None else text(reason, HTTPStatus.SERVICE_UNAVAILABLE)


async def _metrics(watched: Watched, _found: re.Match[str], request: Request) -> Answer:
    try:
        from cotun_trio.admin import metrics  # where it is not asked for, it costs nothing
    except UsageError as error:
        return problem(HTTPStatus.NOT_IMPLEMENTED, str(error))
    accept = b",".join(request.values(b"accept")).decode("latin-1")
    return Answer(*await metrics.exposition(watched, accept))


async def _stats(watched: Watched, _found: re.Match[str], _request: Request) -> Answer:
    about = {"role": watched.role, "version": __version__, "uptime": round(watched.uptime, 3)}
    reason = watched.not_ready
    ready = {"ready": reason is None, "not_ready_because": reason}
    figures, _ = await watched.stats()
    return as_json({**about, **ready, **attrs.asdict(figures)})


async def _sessions(watched: Watched, _found: re.Match[str], _request: Request) -> Answer:
    return as_json([_shown(each) for each in await watched.sessions()])


async def _session(watched: Watched, found: re.Match[str], _request: Request) -> Answer:
    for each in await watched.sessions():
        if each.id == found["id"]:
            return as_json(_shown(each))
    return _no_session(found["id"])


def _shown(session: SessionFigures) -> dict[str, object]:
    return {"id": session.id, **attrs.asdict(session)}


async def _kick(watched: Watched, found: re.Match[str], request: Request) -> Answer:
    query = request.origin_form.partition(b"?")[2].decode("ascii", "replace")
    reason = escape(parse_qs(query).get("reason", [KICKED])[0], MAX_REASON)
    if not await watched.kick(found["id"], reason):
        return _no_session(found["id"])
    return as_json({"id": found["id"], "reason": reason})


def _no_session(identity: str) -> Answer:
    return problem(HTTPStatus.NOT_FOUND, f"there is no session {identity}")


_SESSION = re.compile("/api/v1/sessions/(?P<id>[0-9]{1,12}([.][0-9]{1,12})?)")
_ROUTES: tuple[tuple[re.Pattern[str], dict[str, Method]], ...] = (
    (re.compile("/health"), {"GET": _health}),
    (re.compile("/ready"), {"GET": _ready}),
    (re.compile("/metrics"), {"GET": _metrics}),
    (re.compile("/api/v1/stats"), {"GET": _stats}),
    (re.compile("/api/v1/sessions"), {"GET": _sessions}),
    (_SESSION, {"GET": _session, "DELETE": _kick}),
)
