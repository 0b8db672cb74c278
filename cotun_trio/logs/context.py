"""A logger whose lines begin with their context.

Context nests as the things themselves do: a session's lines begin with ``session=3``, those of a
connection in it with ``session=3 user=alice conn=7``.  Text from a peer is escaped before it gets
here (`cotun_trio.escape`).
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Protocol

from cotun_trio.logs.events import recorded

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = "cotun"
TRACE = 5
"""The level of lines about single messages, below `logging.DEBUG`."""

MAX_PLACES = 100
"""Places of errors of which the log has a traceback."""
_places: set[tuple[type[BaseException], str, int]] = set()
_process: dict[str, object] = {}  # the pairs that all lines of the process begin with


class Limit(Protocol):
    """A limit on lines, such as `cotun_trio.logs.limits` has for each source."""

    def admits(self, level: int, *, traceback: bool = False) -> bool:
        """Return whether there may be a line at `level`, and count it."""

    def apart(self, subject: str) -> Limit:
        """Return another limit, for lines about `subject`: other lines take nothing from it."""


class Context(logging.LoggerAdapter[logging.Logger]):
    """A logger that begins every line with ``key=value`` pairs.

    With a `limit`, lines above it are left out.
    """

    def __init__(
        self,
        logger: logging.Logger,
        pairs: Mapping[str, object] | None = None,
        limit: Limit | None = None,
    ) -> None:
        super().__init__(logger)
        self._limit = limit
        self.pairs = pairs or {}
        self._prefix: str | None = None  # made when there is a line to be written

    def within(self, **pairs: object) -> Context:
        """Return the same with more pairs, or with other values for some."""
        return type(self)(self.logger, {**self.pairs, **pairs}, self._limit)

    def limited(self, limit: Limit) -> Context:
        """Return the same with another limit, for the lines that one source can provoke."""
        return type(self)(self.logger, self.pairs, limit)

    def apart(self, subject: str) -> Context:
        """Return the same for lines about `subject`, which other lines cannot keep from the log."""
        limit = self._limit
        return self if limit is None else self.limited(limit.apart(subject))

    @property
    def prefix(self) -> str:
        """The pairs that lines begin with, as text."""
        if self._prefix is None:
            pairs = _process | dict(self.pairs)
            self._prefix = " ".join(f"{key}={value}" for key, value in pairs.items())
        return self._prefix

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a message with the context before it.

        ``extra={"facts": …}`` has the parts of the message by their names, for programs: a JSON
        line has them as fields, beside those of the context.
        """
        if self.isEnabledFor(level):
            limit = self._limit
            if limit is not None and not limit.admits(
                level, traceback=bool(kwargs.get("exc_info"))
            ):
                return
            msg, args, extra = self._in_context(msg, args)
            extra = {**(extra or {}), **(kwargs.pop("extra", None) or {})}
            self.logger.log(level, msg, *args, extra=extra, **kwargs)

    @property
    def traces(self) -> bool:
        """Whether there are lines for single messages, too (``-vv``)."""
        return self.isEnabledFor(TRACE)

    def trace(self, msg: str, *args: object) -> None:
        """Log a single message of the protocol."""
        self.log(TRACE, msg, *args)

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log an error that nobody has foreseen, within its ``except`` block, at ERROR.

        The traceback comes with it once for each place that an error comes from; after that, a peer
        that knows how to cause it could fill the log.
        """
        error = sys.exception()
        assert error is not None
        place = _place(error)
        is_new = place not in _places and len(_places) < MAX_PLACES
        if is_new:
            _places.add(place)
        self.log(logging.ERROR, msg, *args, **{**kwargs, "exc_info": is_new})

    def event(self, kind: str, **facts: object) -> None:
        """Note an event with the context, where events are recorded (`cotun_trio.logs.events`)."""
        events = recorded()
        if events is not None:
            role = self.logger.name.removeprefix(f"{ROOT}.")
            events.add(kind, role, {**self.pairs, **facts})

    def refused(
        self, reason: object, line: str = "refused: %s", level: int = logging.WARNING
    ) -> None:
        """Log that a connection was refused for this `reason`, and note the event."""
        reason = str(reason)
        self.log(level, line, reason, extra={"facts": {"reason": reason}})
        self.event("refused", reason=reason)

    def failed(self, reason: object) -> None:
        """Log that a connection could not be carried for this `reason`, and note the same event."""
        self.refused(reason, "%s")

    def make_record(self, level: int, msg: str, *args: object) -> logging.LogRecord:
        """Return the record that `log` would log, for a caller that writes it by other means."""
        form, args, extra = self._in_context(msg, args)
        return self.logger.makeRecord(
            self.logger.name, level, __file__, 0, form, args, None, extra=extra
        )

    def _in_context(
        self, msg: object, args: tuple[object, ...]
    ) -> tuple[object, tuple[object, ...], dict[str, object] | None]:
        """Return a message with the context before it, and the attributes of its record."""
        prefix = self.prefix
        if not prefix:
            return msg, args, None
        # Never as a part of the format: a user's name or an IPv6 zone can have a % in it.
        # A message without arguments is no format either.
        form = msg if args else str(msg).replace("%", "%%")
        context = _process | dict(self.pairs)
        return f"%s: {form}", (prefix, *args), {"context": context, "context_size": len(prefix) + 2}


def get_logger(side: str) -> Context:
    """Return the logger of ``server`` or ``client``, or of a part of the program."""
    return Context(logging.getLogger(f"{ROOT}.{side}"))


def set_process(pairs: Mapping[str, object]) -> None:
    """Begin all lines of the process with `pairs`."""
    _process.clear()
    _process.update(pairs)


def _place(error: BaseException) -> tuple[type[BaseException], str, int]:
    """Return where an error was raised: its type, the file and the line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]  # a group's own traceback ends at its nursery
    traceback = error.__traceback__
    if traceback is None:
        return type(error), "", 0
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return type(error), traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
