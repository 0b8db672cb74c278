"""Operations of the admin interface: a handler, and its description for programs.

A `Route` is a path with an operation for each of its methods.  The table of them is in
`cotun_trio.admin.routes`; requests are answered by it, and the OpenAPI document is made of it.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import parse_qs, unquote

import attrs

from cotun_trio.admin.answers import JSON, problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from cotun_trio.admin.answers import Answer, Stream
    from cotun_trio.admin.history import History
    from cotun_trio.admin.watched import Watched
    from cotun_trio.http.front import Request

T_co = TypeVar("T_co", covariant=True)
MAX_FIELDS = 100
"""Parameters of a query."""


class Failure(Exception):
    """An operation that fails: the answer is `problem` with this status and this reason."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail

    @property
    def answer(self) -> Answer:
        """The answer."""
        return problem(self.status, self.detail)


@attrs.frozen
class Parameter:
    """A parameter of a path or a query."""

    description: str
    pattern: str = ".+"
    """A regular expression that its values match, percent-encoded where that is needed."""


@attrs.frozen
class Call:
    """A call of an operation."""

    watched: Watched
    history: History
    request: Request
    path: Mapping[str, str]
    """The parameters of its path, decoded."""
    body: object
    """The value of its body, of the class that the operation `takes`; None without."""

    def query(self, name: str) -> str | None:
        """Return a parameter of the query, decoded; None where there is none, or an empty one."""
        try:
            found = parse_qs(self.request.query, max_num_fields=MAX_FIELDS).get(name)
        except ValueError:
            raise Failure(HTTPStatus.BAD_REQUEST, "too many parameters") from None
        return found[0] if found else None


@attrs.frozen(kw_only=True)
class Operation(Generic[T_co]):
    """What a method of a path does."""

    handler: Callable[[Call], Awaitable[T_co | Answer | Stream]] = attrs.field(kw_only=False)
    """Returns the answer, or the value that becomes its JSON.  Raises `Failure`.  Its docstring
    is the description."""
    gives: type[T_co] | None = None
    """The class of the value; None where it is no JSON."""
    media_types: tuple[str, ...] = (JSON,)
    """The content types that the answer can have."""
    takes: type | None = None
    """The attrs class of the JSON in its body; None where it has no body."""
    query: Mapping[str, Parameter] = attrs.field(factory=dict)
    """The parameters of its query; none has to be there."""
    failures: Mapping[HTTPStatus, str] = attrs.field(factory=dict)
    """The statuses of its failures, with their reasons."""
    failures_as_text: bool = False
    """Whether they are text, and not as `problem` has them."""


@attrs.frozen
class Route:
    """A path, with an operation for each of its methods.

    ``{name}`` in the path stands for the parameter with this name.
    """

    path: str
    operations: Mapping[str, Operation[object]]
    parameters: Mapping[str, Parameter] = attrs.field(factory=dict)
    _pattern: re.Pattern[str] = attrs.field(init=False)

    @_pattern.default
    def _compiled(self) -> re.Pattern[str]:
        pattern = re.escape(self.path)
        for name, parameter in self.parameters.items():
            pattern = pattern.replace(rf"\{{{name}\}}", f"(?P<{name}>{parameter.pattern})")
        return re.compile(pattern)

    def match(self, path: str) -> dict[str, str] | None:
        """Return the parameters in the path of a request; None where it is another path."""
        found = self._pattern.fullmatch(path)
        return None if found is None else {k: unquote(v) for k, v in found.groupdict().items()}
