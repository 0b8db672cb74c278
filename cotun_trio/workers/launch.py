"""The launch of a worker: its slot, its process, its link, and the first message to it.

All of these are taken here, and given back here when the worker has ended.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
from typing import TYPE_CHECKING

from cotun_trio.workers import control
from cotun_trio.workers.attention import Attention
from cotun_trio.workers.control_link import ControlLink
from cotun_trio.workers.handover import Outgoing
from cotun_trio.workers.shared_counts import SERVED, STEPS, TAKEN, SharedCounts, allocate
from cotun_trio.workers.spawn import Start, worker_process
from cotun_trio.workers.worker_handle import WorkerHandle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from cotun_trio.settings import ProcessSettings, ServerSettings
    from cotun_trio.workers.restarts import Restarts


class Launcher:
    """Launches workers for these settings, which have a host key; `close` it.

    There can be as many as `process` says, and one more while one takes another's place.
    """

    def __init__(self, settings: ServerSettings, process: ProcessSettings) -> None:
        assert settings.host_key is not None
        self._settings = settings
        self._process = process
        self._host_key = settings.host_key
        self._key = secrets.token_bytes(16)
        self._node = secrets.token_hex(16)
        self._slots = process.workers + 1
        self._free_slots = list(range(self._slots))
        self._memory = allocate(self._slots)
        self._counts = SharedCounts(self._memory, self._slots, self._key)
        self._numbers = itertools.count(1)

    def close(self) -> None:
        """Close the shared memory.  To be called when all workers are gone."""
        self._counts.close()
        os.close(self._memory)

    @contextlib.asynccontextmanager
    async def launch(
        self, restarts: Restarts, news: Callable[[], None]
    ) -> AsyncIterator[WorkerHandle]:
        """Give a new worker, which has got its `control.Begin`; its process ends with the block.

        `restarts` is the account of its place, and `news` is for its `Attention`.  Raises `OSError`
        where the system has no process for it.
        """
        with self._slot() as slot, contextlib.closing(self._outgoing(slot)) as outgoing:
            async with worker_process(self._memory, outgoing.theirs) as (process, sock):
                with contextlib.closing(ControlLink(sock)) as link:
                    steps = self._counts.count(STEPS, slot)
                    worker = WorkerHandle(
                        next(self._numbers),
                        process,
                        link,
                        outgoing,
                        served=self._counts.count(SERVED, slot),
                        attention=Attention(link, outgoing, steps, news),
                        restarts=restarts,
                    )
                    link.send(control.Begin(self._start(worker.number, slot).pack()))
                    yield worker

    @contextlib.contextmanager
    def _slot(self) -> Iterator[int]:
        """Give a free slot of the shared memory; clear it at the end."""
        slot = self._free_slots.pop(0)
        try:
            yield slot
        finally:
            self._counts.clear(slot)
            self._free_slots.append(slot)

    def _outgoing(self, slot: int) -> Outgoing:
        return Outgoing(self._counts.count(TAKEN, slot))

    def _start(self, number: int, slot: int) -> Start:
        return Start(
            number=number,
            slot=slot,
            slots=self._slots,
            key=self._key,
            settings=self._settings,
            process=self._process,
            host_key=self._host_key,
            node=self._node,
        )
