"""An answer of the admin interface: a whole one, or a stream that has no end."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
PROBLEM = "application/problem+json"
_HEADERS = (
    "Cache-Control: no-store",
    "X-Content-Type-Options: nosniff",
    "Cross-Origin-Resource-Policy: same-origin",
    "Referrer-Policy: no-referrer",
)
"""On every answer: nothing of it is kept, guessed at, or shown to other sites."""
_POLICY = "default-src 'none'; frame-ancestors 'none'"
"""The content that a browser may load for an answer: nothing; and nowhere is it framed."""


@attrs.frozen
class Answer:
    """The answer to a request."""

    body: bytes
    content_type: str = TEXT
    status: HTTPStatus = HTTPStatus.OK
    headers: tuple[str, ...] = ()
    """Lines besides those of every answer."""
    policy: str = _POLICY
    """Its Content-Security-Policy."""

    @property
    def lines(self) -> str:
        """All header lines that are not about the body itself, each with its end."""
        return _lines(self.policy, self.headers)


@attrs.frozen
class Stream:
    """An answer that goes on until its reader leaves, or the interface ends."""

    next_part: Callable[[], Awaitable[bytes]]
    """Returns the next bytes, as soon as there are some.  Can be cancelled at any time."""
    content_type: str
    headers: tuple[str, ...] = ()
    """See `Answer`."""

    @property
    def lines(self) -> str:
        """See `Answer`."""
        return _lines(_POLICY, self.headers)


def _lines(policy: str, more: tuple[str, ...]) -> str:
    lines = (*_HEADERS, f"Content-Security-Policy: {policy}", *more)
    return "".join(f"{line}\r\n" for line in lines)


def text(words: str, status: HTTPStatus = HTTPStatus.OK, *headers: str) -> Answer:
    """Return an answer of one line."""
    return Answer(f"{words}\n".encode(), TEXT, status, headers)


def as_json(value: object) -> Answer:
    """Return a value as JSON; attrs classes in it are objects."""
    return Answer(_encode(value), JSON)


@attrs.frozen
class Problem:
    """An error as JSON (RFC 9457)."""

    title: str
    """The name of the status."""
    status: int
    detail: str
    """The reason, for people."""


def problem(status: HTTPStatus, detail: str, *headers: str) -> Answer:
    """Return an error as JSON (RFC 9457)."""
    body = _encode(Problem(status.phrase, status.value, detail))
    return Answer(body, PROBLEM, status, headers)


def _encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), default=attrs.asdict).encode() + b"\n"
