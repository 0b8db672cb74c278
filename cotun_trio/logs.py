"""Log lines: when, which side, in what context, what.

Context nests as the things themselves do: a session's lines begin with ``session=3``, those of a
connection in it with ``session=3 user=alice conn=7``.  Text from a peer is escaped before it gets
here (`cotun_trio.escape`).
"""

from __future__ import annotations

import logging
from typing import Any

ROOT = "cotun"


class Context(logging.LoggerAdapter[logging.Logger]):
    """A logger that begins every line with ``key=value`` pairs."""

    def __init__(self, logger: logging.Logger, prefix: str = "") -> None:
        super().__init__(logger)
        self._prefix = prefix

    def within(self, **pairs: object) -> Context:
        """Return the same with more pairs."""
        more = " ".join(f"{key}={value}" for key, value in pairs.items())
        return Context(self.logger, f"{self._prefix} {more}".lstrip())

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a message with the context before it."""
        if self.isEnabledFor(level):
            if self._prefix:
                # Never as a part of the format: a user's name or an IPv6 zone can have a % in it.
                # A message without arguments is no format either.
                form = msg if args else str(msg).replace("%", "%%")
                msg, args = f"%s: {form}", (self._prefix, *args)
            self.logger.log(level, msg, *args, **kwargs)


def get_logger(side: str) -> Context:
    """Return the logger of ``server`` or ``client``."""
    return Context(logging.getLogger(f"{ROOT}.{side}"))


def configure(*, verbose: bool) -> None:
    """Send the lines to standard error; with `verbose`, also those about single connections."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(side)s: %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger = logging.getLogger(ROOT)
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.side = record.name.rpartition(".")[2]
        return super().format(record)
