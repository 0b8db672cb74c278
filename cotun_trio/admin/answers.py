"""An answer of the admin interface, and how it goes out as HTTP."""

from __future__ import annotations

import json
from http import HTTPStatus

import attrs

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
_HEADERS = (
    "Cache-Control: no-store",
    "X-Content-Type-Options: nosniff",
    "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy: same-origin",
    "Referrer-Policy: no-referrer",
)
"""On every answer: nothing of it is kept, guessed at, framed, or shown to other sites."""


@attrs.frozen
class Answer:
    """The answer to a request."""

    body: bytes
    content_type: str = TEXT
    status: HTTPStatus = HTTPStatus.OK
    headers: tuple[str, ...] = ()
    """Lines besides those of every answer."""

    @property
    def lines(self) -> str:
        """All header lines that are not about the body itself, each with its end."""
        return "".join(f"{line}\r\n" for line in (*_HEADERS, *self.headers))


def text(words: str, status: HTTPStatus = HTTPStatus.OK, *headers: str) -> Answer:
    """Return an answer of one line."""
    return Answer(f"{words}\n".encode(), TEXT, status, headers)


def as_json(value: object, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    """Return a value as JSON."""
    return Answer(json.dumps(value, separators=(",", ":")).encode() + b"\n", JSON, status)


def problem(status: HTTPStatus, detail: str) -> Answer:
    """Return an error as JSON (RFC 9457)."""
    value = {"title": status.phrase, "status": status.value, "detail": detail}
    body = json.dumps(value, separators=(",", ":")).encode() + b"\n"
    return Answer(body, "application/problem+json", status)
