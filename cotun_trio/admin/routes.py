"""The paths of the interface, and how requests are answered by them.

The OpenAPI document at `DOCUMENT` describes all of them.
"""

from __future__ import annotations

import functools
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import attrs

from cotun_trio.admin import bars, events, log_level, openapi, probes, sessions
from cotun_trio.admin.answers import JSON, TEXT, Answer, Stream, as_json, problem
from cotun_trio.admin.bodies import read_body, read_value
from cotun_trio.admin.operations import Call, Failure, Operation, Parameter, Route
from cotun_trio.admin.watched import NoAnswer
from cotun_trio.escape import escape
from cotun_trio.logs.events import Event
from cotun_trio.snapshot import SessionChannels

if TYPE_CHECKING:
    from cotun_trio.admin.history import History
    from cotun_trio.admin.watched import Watched
    from cotun_trio.http.front import Front, Request

API = "/api/v1"
DOCUMENT = f"{API}/openapi.json"


async def openapi_document(_call: Call) -> dict[str, Any]:
    """Return this document."""
    return document()


@functools.cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document of the interface."""
    return openapi.document(ROUTES)


_SESSION = {
    "id": Parameter("The number of a session, as in the list", "[0-9]{1,12}([.][0-9]{1,12})?")
}
_SOURCE = {
    "source": Parameter(
        "A source, as in the list, or an address of it; the slash of a /64 can be %2F", ".+"
    )
}
_REASON = {"reason": Parameter(f"The reason for the peer, up to {sessions.MAX_REASON} characters")}
_BEGINNING = {
    "after": Parameter("The number of the last event that is known", events.NUMBER),
    "last": Parameter("How many of the latest events come at first", events.NUMBER),
}
_NO_SESSION = {
    HTTPStatus.NOT_FOUND: "There is no such session",
    HTTPStatus.GATEWAY_TIMEOUT: "The worker that may have it does not answer",
}
_NOT_BARRED = {HTTPStatus.NOT_FOUND: "The source is not barred"}
_NOT_OURS = {HTTPStatus.CONFLICT: "The log is that of a program that embeds this one"}
ROUTES = (
    Route("/health", {"GET": Operation(probes.health, media_types=(TEXT,))}),
    Route(
        "/ready",
        {
            "GET": Operation(
                probes.ready,
                media_types=(TEXT,),
                failures={HTTPStatus.SERVICE_UNAVAILABLE: "The reason"},
                failures_as_text=True,
            )
        },
    ),
    Route(
        "/metrics",
        {
            "GET": Operation(
                probes.metrics,
                media_types=(TEXT, "application/openmetrics-text"),
                failures={HTTPStatus.NOT_IMPLEMENTED: "prometheus-client is not installed"},
            )
        },
    ),
    Route(DOCUMENT, {"GET": Operation(openapi_document, gives=dict[str, Any])}),
    Route(f"{API}/rates", {"GET": Operation(probes.rates, gives=probes.Rates)}),
    Route(f"{API}/stats", {"GET": Operation(probes.stats, gives=probes.Stats)}),
    Route(f"{API}/sessions", {"GET": Operation(sessions.sessions, gives=list[sessions.Session])}),
    Route(
        f"{API}/sessions/{{id}}",
        {
            "GET": Operation(sessions.session, gives=sessions.Session, failures=_NO_SESSION),
            "DELETE": Operation(
                sessions.end_session, gives=sessions.Ended, query=_REASON, failures=_NO_SESSION
            ),
        },
        _SESSION,
    ),
    Route(
        f"{API}/sessions/{{id}}/channels",
        {"GET": Operation(sessions.channels, gives=SessionChannels, failures=_NO_SESSION)},
        _SESSION,
    ),
    Route(
        f"{API}/events",
        {
            "GET": Operation(
                events.events,
                gives=list[Event],
                media_types=(JSON, events.CONTENT_TYPE),
                query=_BEGINNING,
                failures={HTTPStatus.SERVICE_UNAVAILABLE: "There are too many readers"},
            )
        },
    ),
    Route(
        f"{API}/bars",
        {
            "GET": Operation(bars.bars, gives=bars.BarredSources),
            "DELETE": Operation(bars.lift_all, gives=bars.Lifted),
        },
    ),
    Route(
        f"{API}/bars/{{source}}",
        {"DELETE": Operation(bars.lift, gives=bars.Lifted, failures=_NOT_BARRED)},
        _SOURCE,
    ),
    Route(
        f"{API}/log-level",
        {
            "GET": Operation(log_level.log_level, gives=log_level.LogLevel, failures=_NOT_OURS),
            "PUT": Operation(
                log_level.set_log_level,
                gives=log_level.LogLevel,
                takes=log_level.LogLevel,
                failures=_NOT_OURS,
            ),
        },
    ),
)


async def answer(
    watched: Watched, history: History, front: Front, request: Request
) -> Answer | Stream:
    """Return the answer to a request about `watched` and its `history`, whose body `front` reads.

    Raises `CotunError` where the connection ends before.
    """
    path = request.path.decode("ascii", "replace")
    for route in ROUTES:
        if (parameters := route.match(path)) is not None:
            call = Call(watched, history, request, parameters, None)
            return await _answer(route, call, front)
    return problem(HTTPStatus.NOT_FOUND, f"there is no {escape(path)}")


async def _answer(route: Route, call: Call, front: Front) -> Answer | Stream:
    """Return the answer to a call for a path of `route`."""
    method = call.request.method.decode("ascii", "replace")
    operation = route.operations.get("GET" if method == "HEAD" else method)
    if operation is None:
        allowed = route.operations.keys() | ({"HEAD"} if "GET" in route.operations else set())
        detail = f"{escape(method)} is not for {escape(route.path)}"
        return problem(
            HTTPStatus.METHOD_NOT_ALLOWED, detail, f"Allow: {', '.join(sorted(allowed))}"
        )
    try:
        if operation.takes is not None:
            body = read_value(operation.takes, await read_body(front, call.request))
            call = attrs.evolve(call, body=body)
        value = await operation.handler(call)
    except Failure as failure:
        return failure.answer
    except NoAnswer as error:
        return problem(HTTPStatus.GATEWAY_TIMEOUT, str(error))
    return value if isinstance(value, (Answer, Stream)) else as_json(value)
