"""The body of a request to the admin interface: a small piece of JSON."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import attrs
import h11
import trio

from cotun_trio.admin.operations import Failure
from cotun_trio.http.front import HeadError

if TYPE_CHECKING:
    from cotun_trio.http.front import Front, Request

MAX_BODY = 4 * 1024
"""Bytes of a body."""
BODY_TIMEOUT = 10.0
"""Seconds for all of it."""


async def read_body(front: Front, request: Request) -> bytes:
    """Return the body of `request`.

    Raises `Failure` for one that is too long, too slow, or whose length is not said before, and
    `ConnectionLost`.
    """
    lengths = request.values(b"content-length")
    if not lengths:
        raise Failure(HTTPStatus.LENGTH_REQUIRED, "the body has to have a Content-Length")
    if int(lengths[0]) > MAX_BODY:
        raise Failure(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body of over {MAX_BODY} bytes")
    body = bytearray()
    try:
        with trio.fail_after(BODY_TIMEOUT):
            if front.parser.they_are_waiting_for_100_continue:
                await front.send(h11.InformationalResponse(status_code=100, headers=[]))
            while isinstance(event := await front.next_event(), h11.Data):
                body += event.data
    except HeadError as error:
        raise Failure(error.status, str(error)) from None
    except trio.TooSlowError:
        reason = f"a body that does not end in {BODY_TIMEOUT:g} s"
        raise Failure(HTTPStatus.REQUEST_TIMEOUT, reason) from None
    return bytes(body)


def read_value(kind: type, body: bytes) -> object:
    """Return the value of an attrs class `kind` that a JSON object has the fields of.

    Raises `Failure` for any other text, and with the reason of a `ValueError` of the class.
    """
    names = [field.name for field in attrs.fields(kind)]
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or set(value) != set(names):
        detail = f"the body has to be a JSON object with these members: {', '.join(names)}"
        raise Failure(HTTPStatus.BAD_REQUEST, detail)
    try:
        return kind(**value)
    except ValueError as error:
        raise Failure(HTTPStatus.BAD_REQUEST, str(error)) from None
