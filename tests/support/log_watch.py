"""What the program says, as something a test can wait for."""

from __future__ import annotations

import contextlib
import logging
import re
from typing import TYPE_CHECKING

import trio

from cotun_trio.logs.context import set_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class LogWatch(logging.Handler):
    """Collects what is logged below ``cotun``, debug lines included."""

    def __init__(self, level: int = logging.DEBUG) -> None:
        super().__init__(level)
        self.records: list[logging.LogRecord] = []
        self._news = trio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep `record`, and wake who waits."""
        self.records.append(record)
        news, self._news = self._news, trio.Event()
        news.set()

    def lines(self, side: str = "", *, level: int = logging.INFO) -> list[str]:
        """Return the messages of one side (``server``, ``client``; default: both) so far."""
        return [
            record.getMessage()
            for record in self.records
            if record.levelno >= level and record.name.endswith(side)
        ]

    def find(self, pattern: str, side: str = "", *, skip: int = 0) -> list[re.Match[str]]:
        """Return the matches of `pattern` among all lines of a side but the first `skip`."""
        lines = self.lines(side, level=self.level)[skip:]
        return [match for line in lines if (match := re.search(pattern, line))]

    def count(self, side: str = "") -> int:
        """Return how many lines there are so far, for `find` and `wait_for` to skip."""
        return len(self.lines(side, level=self.level))

    async def wait_for(
        self, pattern: str, side: str = "", *, times: int = 1, skip: int = 0, timeout: float = 10
    ) -> re.Match[str]:
        """Return the match of the `times`-th line with `pattern`, now or when it comes."""
        with trio.move_on_after(timeout):
            while len(found := self.find(pattern, side, skip=skip)) < times:
                await self._news.wait()
            return found[times - 1]
        said = "\n".join(self.lines(side, level=logging.DEBUG))
        raise AssertionError(f"{pattern!r} did not come {times} times in {timeout:g} s:\n{said}")


@contextlib.asynccontextmanager
async def watch_logs(detail: int = logging.DEBUG) -> AsyncIterator[LogWatch]:
    """Collect all lines of the level `detail` or above that are logged meanwhile."""
    watch = LogWatch(detail)
    logger = logging.getLogger("cotun")
    level = logger.level
    logger.setLevel(detail)
    logger.addHandler(watch)
    try:
        yield watch
    finally:
        logger.removeHandler(watch)
        logger.setLevel(level)


@contextlib.contextmanager
def restored_logging() -> Iterator[None]:
    """Undo in the end what `cotun_trio.logs.configure` does to the process."""
    logger = logging.getLogger("cotun")
    before = logger.handlers[:], logger.level, logger.propagate
    try:
        yield
    finally:
        logger.handlers[:], logger.level, logger.propagate = before
        set_process({})
