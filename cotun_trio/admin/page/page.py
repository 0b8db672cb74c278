"""The paths of the page, and their answers.

``/``
    the document.
``/page.css``, ``/page.js``
    its style and its script.
"""

from __future__ import annotations

from http import HTTPStatus
from importlib import resources
from typing import TYPE_CHECKING

from cotun_trio.admin.answers import Answer, problem
from cotun_trio.admin.page.document import document
from cotun_trio.admin.page.state import state_of

if TYPE_CHECKING:
    from cotun_trio.admin.history import History
    from cotun_trio.admin.watched import Watched
    from cotun_trio.http.front import Request

HTML = "text/html; charset=utf-8"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_FILES = {"/page.css": "text/css; charset=utf-8", "/page.js": "text/javascript; charset=utf-8"}


class Page:
    """The page about `watched`, with the traffic that its `history` has."""

    def __init__(self, watched: Watched, history: History) -> None:
        self._watched = watched
        self._history = history

    async def answer(self, request: Request) -> Answer | None:
        """Return the answer to a request for the page; None for anything else."""
        path = request.path.decode("ascii", "replace")
        if path not in {"/", *_FILES}:
            return None
        if request.method not in {b"GET", b"HEAD"}:
            return problem(HTTPStatus.METHOD_NOT_ALLOWED, "the page is for GET", "Allow: GET, HEAD")
        if path == "/":
            state = await state_of(self._watched, self._history)
            return Answer(document(state), HTML, policy=POLICY)
        data = resources.files(__package__).joinpath(path.removeprefix("/")).read_bytes()
        return Answer(data, _FILES[path])
