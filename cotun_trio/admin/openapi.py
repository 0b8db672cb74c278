"""The OpenAPI document of the interface, made of its routes.

See https://spec.openapis.org/oas/v3.1.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from cotun_trio._version import __version__
from cotun_trio.admin.access import COOKIE
from cotun_trio.admin.answers import JSON, PROBLEM, TEXT, Problem
from cotun_trio.admin.schemas import Schemas, plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cotun_trio.admin.operations import Operation, Parameter, Route

ABOUT = """\
The admin interface of a cotun-trio server or client.  On a Unix socket no token is needed.  On a
port, each request has the token: as a bearer, or as the cookie that the address with `?token=`
sets."""
_STRING = {"type": "string"}
_OF_ALL = {
    HTTPStatus.BAD_REQUEST: "A malformed request",
    HTTPStatus.UNAUTHORIZED: "No token, or a wrong one",
    HTTPStatus.FORBIDDEN: "A Host or an Origin that is not the interface",
    HTTPStatus.REQUEST_TIMEOUT: "A request that does not end",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "A head that is too long",
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: "Another version than HTTP/1",
}
"""Answers to a request that does not get as far as an operation: text."""
_OF_BODIES = {
    HTTPStatus.BAD_REQUEST: "A malformed request, or another body than the one described",
    HTTPStatus.REQUEST_TIMEOUT: "A request that does not end",
    HTTPStatus.LENGTH_REQUIRED: "A body without a Content-Length",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "A body that is too long",
}
"""Answers to a body."""
_OF_QUERIES = {HTTPStatus.BAD_REQUEST: "A malformed request, or a query that is too long"}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the document that describes these routes."""
    schemas = Schemas()
    paths = {route.path: _path(route, schemas) for route in routes}
    return {
        "openapi": "3.1.0",
        "info": {"title": "cotun-trio", "version": __version__, "description": plain(ABOUT)},
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {"cookie": []}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.named.items())),
            "responses": {
                status.name: {"description": text, "content": _content(TEXT, _STRING)}
                for status, text in _OF_ALL.items()
            },
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "cookie": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": COOKIE,
                    "description": f"With the port of the address behind it: {COOKIE}_9110",
                },
            },
        },
    }


def _path(route: Route, schemas: Schemas) -> dict[str, Any]:
    """Return the description of a path."""
    described: dict[str, Any] = {
        method.lower(): _operation(operation, schemas)
        for method, operation in route.operations.items()
    }
    if route.parameters:
        described["parameters"] = [
            {**_parameter(name, parameter), "in": "path", "required": True}
            for name, parameter in route.parameters.items()
        ]
    return described


def _operation(operation: Operation[object], schemas: Schemas) -> dict[str, Any]:
    """Return the description of an operation."""
    summary, _, more = (operation.handler.__doc__ or "").partition("\n")
    described: dict[str, Any] = {
        "operationId": operation.handler.__name__,
        "summary": plain(summary),
        "responses": _answers(operation, schemas),
    }
    if more.strip():
        described["description"] = plain(more)
    if operation.query:
        described["parameters"] = [
            {**_parameter(name, parameter), "in": "query"}
            for name, parameter in operation.query.items()
        ]
    if operation.takes is not None:
        # Nothing else may be in it; an answer may have more in another version.
        taken = {**schemas.of(operation.takes), "unevaluatedProperties": False}
        described["requestBody"] = {"required": True, "content": _content(JSON, taken)}
    return described


def _parameter(name: str, parameter: Parameter) -> dict[str, Any]:
    schema = {"type": "string", "pattern": f"^{parameter.pattern}$"}
    return {"name": name, "description": parameter.description, "schema": schema}


def _answers(operation: Operation[object], schemas: Schemas) -> dict[str, Any]:
    """Return the descriptions of the answers of an operation, by their statuses."""
    answers: dict[HTTPStatus, dict[str, Any]] = {
        HTTPStatus.OK: {"description": "The answer", "content": {}}
    }
    for media_type in operation.media_types:
        given = schemas.of(operation.gives) if media_type == JSON else _STRING
        answers[HTTPStatus.OK]["content"] |= _content(media_type, given)
    problem = _content(PROBLEM, schemas.of(Problem))
    failures = {
        **(_OF_QUERIES if operation.query else {}),
        **(_OF_BODIES if operation.takes is not None else {}),
        **operation.failures,
    }
    for status, text in failures.items():
        content = _content(TEXT, _STRING) if operation.failures_as_text else {**problem}
        answers[status] = {"description": text, "content": content}
    for status in _OF_ALL:
        if status in answers:
            answers[status]["content"] |= _content(TEXT, _STRING)
        else:
            answers[status] = {"$ref": f"#/components/responses/{status.name}"}
    return {str(status.value): answers[status] for status in sorted(answers)}


def _content(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {media_type.partition(";")[0]: {"schema": schema}}
