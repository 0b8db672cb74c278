"""The form of the program's log, and its output."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Literal, TypeAlias

from cotun_trio.logs.context import ROOT, TRACE, get_logger, set_process
from cotun_trio.logs.formats import make_formatter
from cotun_trio.logs.standard_error import LineStream, line_stream

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO


Level: TypeAlias = Literal["trace", "debug", "info", "warning"]
LEVELS: dict[Level, int] = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
}
"""The levels of the program's log: those of ``-vv``, of ``-v``, without an option, of ``-q``."""
_configured: list[logging.Handler] = []  # the handler of the program's log


def configure(
    *,
    verbose: bool,
    trace: bool = False,
    quiet: bool = False,
    json_lines: bool = False,
    stream: TextIO | None = None,
    environment: Mapping[str, str] = os.environ,
    process: Mapping[str, object] | None = None,
) -> None:
    """Send the lines to `stream`, which is standard error if None.

    With `verbose`, there are also lines about single connections, and with `trace` about single
    messages; when `quiet`, only warnings and errors; with `json_lines`, each is a JSON object.  The
    kind of stream decides about the rest: a terminal gets colours, unless ``NO_COLOR`` says
    otherwise (no-color.org), and systemd's journal gets the priority of each line (sd-daemon(3)),
    and no time, since it has its own.

    A stream with a descriptor is written to without waiting for its reader: lines without room are
    dropped, and counted (`cotun_trio.logs.output`).

    `process` are pairs that tell this process from others that write to the same stream.
    """
    set_process(process or {})
    target = _without_waiting(stream or sys.stderr)
    formatter = make_formatter(target, environment, json_lines=json_lines)
    handler: logging.Handler = logging.NullHandler()  # it may have been started without one
    if target is not None:
        handler = logging.StreamHandler(target)
        handler.setFormatter(formatter)
    if isinstance(target, LineStream):
        target.output.show_dropped(lambda count: formatter.format(_record_of(count)))
    logger = logging.getLogger(ROOT)
    logger.handlers[:] = _configured[:] = [handler]
    logging.addLevelName(TRACE, "TRACE")
    usual = logging.WARNING if quiet else logging.INFO
    logger.setLevel(TRACE if trace else logging.DEBUG if verbose else usual)
    logger.propagate = False


def level() -> Level | None:
    """Return the name of the log's level; None where the log is not ours, but an embedding
    program's."""
    logger = logging.getLogger(ROOT)
    if not any(handler in logger.handlers for handler in _configured):
        return None
    return next((name for name, number in LEVELS.items() if number >= logger.level), "warning")


def set_level(name: Level) -> None:
    """Log at the level with this name from now on, where the log is ours.

    Lines about single messages (``trace``) are logged by connections that begin after that.
    """
    logging.getLogger(ROOT).setLevel(LEVELS[name])


def _without_waiting(stream: TextIO | LineStream | None) -> TextIO | LineStream | None:
    """Return a stream that leads to the same descriptor; `stream` itself if it has none."""
    if stream is None or isinstance(stream, LineStream):
        return stream
    return line_stream(stream) or stream


def _record_of(dropped: int) -> logging.LogRecord:
    """Return the record that says how many lines were dropped."""
    log = get_logger("log")
    return log.make_record(logging.WARNING, "%d lines were dropped here: nobody read them", dropped)
