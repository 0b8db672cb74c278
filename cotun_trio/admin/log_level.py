"""The level of the running program's log."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import attrs

from cotun_trio import logs
from cotun_trio.admin.operations import Failure

if TYPE_CHECKING:
    from cotun_trio.admin.operations import Call


def _check_level(_self: LogLevel, _field: object, value: object) -> None:
    if not isinstance(value, str) or value not in logs.LEVELS:
        raise ValueError(f"the level is one of {', '.join(logs.LEVELS)}")


@attrs.frozen
class LogLevel:
    """The level of the log."""

    level: logs.Level = attrs.field(validator=_check_level)
    """As by ``-vv``, ``-v``, no option, and ``--quiet``."""


async def log_level(call: Call) -> LogLevel:
    """Return the level of the program's log."""
    return LogLevel(await _present(call))


async def set_log_level(call: Call) -> LogLevel:
    """Log at another level from now on, until the program ends.

    ``trace``, which has single messages, is for connections that begin after that.
    """
    assert isinstance(call.body, LogLevel)
    before, level = await _present(call), call.body.level
    if level != before:
        await call.watched.set_log_level(level)
        log = logs.get_logger(call.watched.role)
        # Each level has warnings: a log that has become quiet says why.
        log.warning("an administrator has set the log's level to %s, from %s", level, before)
        log.event("log-level", level=level, before=before)
    return LogLevel(level)


async def _present(call: Call) -> logs.Level:
    level = await call.watched.log_level()
    if level is None:
        reason = "the log is that of the program that embeds this one, which sets its level"
        raise Failure(HTTPStatus.CONFLICT, reason)
    return level
