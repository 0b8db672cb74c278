"""The forms of a line: text, with colours or without, JSON, and the form of systemd's journal."""

from __future__ import annotations

import json
import logging
import os
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cotun_trio.escape import escape

if TYPE_CHECKING:
    from collections.abc import Mapping
    from logging import _SysExcInfoType as ExceptionInfo
    from typing import Protocol

    class Stream(Protocol):
        """The part of a text stream that tells about it."""

        def fileno(self) -> int:
            """Return its descriptor.  Raises `OSError` or `ValueError` where it has none."""

        def isatty(self) -> bool:
            """Return whether it is a terminal."""


MAX_JSON = 4000
"""Bytes of a JSON line, below `cotun_trio.logs.output.MAX_LINE`, which would cut it anywhere."""
MAX_TRACEBACK_LINE = 1000
"""Characters of a line of a traceback."""
_ELLIPSIS = "…"
_COLOURS = {
    "TRACE": "2",
    "DEBUG": "2",
    "WARNING": "33",
    "ERROR": "31",
}  # faint, yellow, red (ECMA-48)
_PRIORITIES = {"TRACE": 7, "DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3}  # syslog(3)


def make_formatter(
    stream: Stream | None, environment: Mapping[str, str], *, json_lines: bool
) -> logging.Formatter:
    """Return the formatter for `stream`."""
    journal = is_journal(stream, environment)
    formatter: logging.Formatter
    if json_lines:
        formatter = JsonFormatter()
    elif journal:
        formatter = _TextFormatter("%(side)s: %(message)s")
    else:
        colours = has_colours(stream, environment)
        formatter = _TextFormatter("%(asctime)s %(level)s %(side)s: %(message)s", colours=colours)
    return _WithPriority(formatter) if journal else formatter


def is_journal(stream: Stream | None, environment: Mapping[str, str]) -> bool:
    """Return whether `stream` leads to systemd's journal (systemd.exec(5))."""
    try:
        assert stream is not None
        status = os.fstat(stream.fileno())
    except (AssertionError, OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def has_colours(stream: Stream | None, environment: Mapping[str, str]) -> bool:
    """Return whether `stream` is a terminal, and wants colours."""
    if environment.get("NO_COLOR") or environment.get("TERM") == "dumb":
        return False
    return stream is not None and stream.isatty()


def shorten(text: str, excess: int) -> str:
    """Return `text` with `excess` bytes less, in UTF-8: without its middle.

    The beginning of a line names its subject, and the end of a traceback the error.
    """
    data = text.encode(errors="backslashreplace")
    kept = max(len(data) - excess - len(_ELLIPSIS.encode()), 0)
    head, tail = data[: kept // 2], data[len(data) - (kept - kept // 2) :]
    return head.decode(errors="ignore") + _ELLIPSIS + tail.decode(errors="ignore")


def _show_exception(info: ExceptionInfo) -> str:
    """Return a traceback, in which an error's own text can neither begin a line nor hide one."""
    text = "".join(traceback.format_exception(*info)).rstrip("\n")
    return "\n".join(f"  {escape(line, MAX_TRACEBACK_LINE)}" for line in text.split("\n"))


class _TextFormatter(logging.Formatter):
    def __init__(self, form: str, *, colours: bool = False) -> None:
        super().__init__(form, "%Y-%m-%d %H:%M:%S")
        self._colours = _COLOURS if colours else {}

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802
        return _show_exception(ei)

    def format(self, record: logging.LogRecord) -> str:
        colour = self._colours.get(record.levelname)
        name = record.levelname
        record.level = f"\x1b[{colour}m{name}\x1b[m" if colour else name
        record.side = _side(record)
        return super().format(record)


class JsonFormatter(logging.Formatter):
    """One JSON object to a line: time (RFC 3339, UTC), level, side, context, facts, message.

    A line of over `MAX_JSON` bytes has its longest text shortened.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for `record`."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "side": _side(record),
        }
        context: Mapping[str, object] = getattr(record, "context", {})
        facts: Mapping[str, object] = getattr(record, "facts", {})
        named = {**context, **facts}
        line |= {k: v if isinstance(v, (int, float)) else str(v) for k, v in named.items()}
        line["message"] = record.getMessage()[getattr(record, "context_size", 0) :]
        if record.exc_info:
            line["exception"] = _show_exception(record.exc_info)
        while (excess := _size(text := json.dumps(line, ensure_ascii=False)) - MAX_JSON) > 0:
            longest = max(line, key=lambda key: _size(str(line[key])))
            value = str(line[longest])
            # Half at the most: a byte of the text can be several of the line.
            line[longest] = shorten(value, min(excess, _size(value) // 2))
        return text


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


def _size(text: str) -> int:
    return len(text.encode(errors="backslashreplace"))
