"""Log lines: when, how grave, which side, in what context, what.

Context nests as the things themselves do: a session's lines begin with ``session=3``, those of a
connection in it with ``session=3 user=alice conn=7``.  Text from a peer is escaped before it gets
here (`cotun_trio.escape`).

Whoever takes records by a handler of their own finds the context in the message, and as a mapping
in the record's ``context``.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

ROOT = "cotun"

_process: dict[str, object] = {}  # the pairs that all lines of the process begin with


class Context(logging.LoggerAdapter[logging.Logger]):
    """A logger that begins every line with ``key=value`` pairs."""

    def __init__(self, logger: logging.Logger, pairs: Mapping[str, object] | None = None) -> None:
        super().__init__(logger)
        self.pairs = pairs or {}
        self._prefix: str | None = None  # made when there is a line to be written

    def within(self, **pairs: object) -> Context:
        """Return the same with more pairs, or with other values for some."""
        return Context(self.logger, {**self.pairs, **pairs})

    @property
    def prefix(self) -> str:
        """What lines begin with."""
        if self._prefix is None:
            pairs = _process | dict(self.pairs)
            self._prefix = " ".join(f"{key}={value}" for key, value in pairs.items())
        return self._prefix

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a message with the context before it."""
        if self.isEnabledFor(level):
            if prefix := self.prefix:
                # Never as a part of the format: a user's name or an IPv6 zone can have a % in it.
                # A message without arguments is no format either.
                form = msg if args else str(msg).replace("%", "%%")
                msg, args = f"%s: {form}", (prefix, *args)
                context = _process | dict(self.pairs)
                kwargs["extra"] = {"context": context, "context_size": len(prefix) + 2}
            self.logger.log(level, msg, *args, **kwargs)


def get_logger(side: str) -> Context:
    """Return the logger of ``server`` or ``client``."""
    return Context(logging.getLogger(f"{ROOT}.{side}"))


def configure(
    *,
    verbose: bool,
    json_lines: bool = False,
    stream: TextIO | None = None,
    environment: Mapping[str, str] = os.environ,
    process: Mapping[str, object] | None = None,
) -> None:
    """Send the lines to `stream`, which is standard error if None.

    With `verbose`, there are also those about single connections; with `json_lines`, each is a JSON
    object.  What the stream is decides about the rest: a terminal gets colours, unless ``NO_COLOR``
    says otherwise (no-color.org), and systemd's journal gets the priority of each line
    (sd-daemon(3)), and no time, since it has its own.

    `process` are pairs that tell this process from others that write to the same stream.
    """
    _process.clear()
    _process.update(process or {})
    stream = stream or sys.stderr
    journal = is_journal(stream, environment)
    formatter: logging.Formatter
    if json_lines:
        formatter = JsonFormatter()
    elif journal:
        formatter = _TextFormatter("%(side)s: %(message)s")
    else:
        colours = has_colours(stream, environment)
        formatter = _TextFormatter("%(asctime)s %(level)s %(side)s: %(message)s", colours=colours)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_WithPriority(formatter) if journal else formatter)
    logger = logging.getLogger(ROOT)
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False


def is_journal(stream: TextIO | None, environment: Mapping[str, str]) -> bool:
    """Return whether what is written to `stream` goes to systemd's journal (systemd.exec(5))."""
    try:
        assert stream is not None
        status = os.fstat(stream.fileno())
    except (AssertionError, OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def has_colours(stream: TextIO | None, environment: Mapping[str, str]) -> bool:
    """Return whether `stream` is a terminal, and wants colours."""
    if environment.get("NO_COLOR") or environment.get("TERM") == "dumb":
        return False
    return stream is not None and stream.isatty()


_COLOURS = {"DEBUG": "2", "WARNING": "33", "ERROR": "31"}  # faint, yellow, red (ECMA-48)


class _TextFormatter(logging.Formatter):
    def __init__(self, form: str, *, colours: bool = False) -> None:
        super().__init__(form, "%Y-%m-%d %H:%M:%S")
        self._colours = _COLOURS if colours else {}

    def format(self, record: logging.LogRecord) -> str:
        colour = self._colours.get(record.levelname)
        name = record.levelname
        record.level = f"\x1b[{colour}m{name}\x1b[m" if colour else name
        record.side = _side(record)
        return super().format(record)


class JsonFormatter(logging.Formatter):
    """One JSON object to a line: time (RFC 3339, UTC), level, side, the context, the message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for `record`."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "side": _side(record),
        }
        context: Mapping[str, object] = getattr(record, "context", {})
        line |= {k: v if isinstance(v, (int, float)) else str(v) for k, v in context.items()}
        line["message"] = record.getMessage()[getattr(record, "context_size", 0) :]
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


_PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3}  # syslog(3)


class _WithPriority(logging.Formatter):
    """Begins each line with its priority, for the journal."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        mark = f"<{_PRIORITIES.get(record.levelname, 6)}>"
        # Lines of a traceback, too, are lines to the journal.
        return "\n".join(mark + line for line in self._inner.format(record).split("\n"))


def _side(record: logging.LogRecord) -> str:
    return record.name.rpartition(".")[2]
