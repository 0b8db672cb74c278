"""The session at work: how quick it is, whether it lives through a pause, how much it carries.

All of it is made of pings, which every server answers, whatever the rights of a user are, and
whatever payload they have.  Nothing like that comes the other way: what is measured is the way up.
"""

from __future__ import annotations

import os
import statistics
from typing import TYPE_CHECKING

import trio

from cotun_trio.client.doctor.meanings import NoAnswer
from cotun_trio.client.doctor.step_names import StepName
from cotun_trio.errors import CotunError
from cotun_trio.protocol.http_answer import Diagnosis

if TYPE_CHECKING:
    from cotun_trio.client.doctor.steps import Steps
    from cotun_trio.client.doctor.visitor import Visitor
    from cotun_trio.ssh.connection import Connection

PINGS = 5
PING_TIMEOUT = 10.0
"""Seconds for the answer to one ping."""
PIECE = 64 * 1024
"""Bytes of a ping that is for the upload: a server takes 256 KiB in a packet."""
PIECES = 48
"""Pings of the upload at the most: a server of ours allows a burst of 64 (`cotun_trio.budget`)."""
FIRST_PIECES = 2
"""Pings that are sent before the first answer; each answer makes room for one more."""
UPLOAD_TIME = 3.0
"""Seconds after which no more of them are sent."""
UPLOAD_TIMEOUT = 15.0
"""Seconds from then on for the answers."""


async def try_pings(steps: Steps, visitor: Visitor) -> None:
    """Ping some times.  Raises the error that ended the session, or `NoAnswer`."""
    times: list[float] = []
    with steps.step(StepName.PING) as step:
        for _ in range(PINGS):
            since = trio.current_time()
            await visitor.ping(PING_TIMEOUT)
            times.append(trio.current_time() - since)
        step.facts |= {
            "pings": PINGS,
            "least_seconds": round(min(times), 6),
            "median_seconds": round(statistics.median(times), 6),
            "most_seconds": round(max(times), 6),
        }


async def try_idle(steps: Steps, visitor: Visitor, seconds: float) -> None:
    """Send nothing for so long, and ping then.  Raises as `try_pings`."""
    wire = visitor.wire
    with steps.step(StepName.IDLE) as step:
        before, since = wire.bytes_in, trio.current_time()
        with trio.move_on_after(seconds):
            raise await visitor.wait_lost()
        received = wire.bytes_in - before
        step.facts |= {
            "idle_seconds": round(trio.current_time() - since, 3),
            "received_bytes": received,
        }
        await visitor.ping(PING_TIMEOUT)
        if received:
            step.diagnosis = Diagnosis(
                "the server has sent something meanwhile, as it does by its own --keepalive (25s): "
                "the connection was not idle for all of that time"
            )


class _Upload:
    """Pings with a payload, some of them under way at the same time."""

    def __init__(self, connection: Connection) -> None:
        self.answered = 0
        self.failure: CotunError | None = None
        self.ended = 0.0  # when the latest answer came
        self._connection = connection
        self._payload = os.urandom(PIECE)  # which nobody on the way can compress
        self._news = trio.Event()

    async def _ask(self) -> None:
        try:
            await self._connection.request("ping", self._payload)
        except CotunError as error:
            self.failure = error
        else:
            self.answered += 1
            self.ended = trio.current_time()
        news, self._news = self._news, trio.Event()
        news.set()

    async def run(self) -> None:
        """Send, until there was enough of it, and wait for the answers."""
        last = trio.current_time() + UPLOAD_TIME
        asked = 0
        with trio.move_on_at(last + UPLOAD_TIMEOUT):
            async with trio.open_nursery() as nursery:
                while self.failure is None:
                    # Twice as many under way after each round trip, as in TCP's slow start.
                    room = 2 * self.answered + FIRST_PIECES
                    while asked < min(room, PIECES) and trio.current_time() < last:
                        nursery.start_soon(self._ask)
                        asked += 1
                    if self.answered == asked:
                        break
                    await self._news.wait()
                nursery.cancel_scope.cancel()


async def try_upload(steps: Steps, visitor: Visitor) -> None:
    """Send up to 3 MiB, as fast as the server answers.  Raises as `try_pings`."""
    with steps.step(StepName.UPLOAD) as step:
        before, since = visitor.wire.bytes_in, trio.current_time()
        upload = _Upload(visitor.session.connection)
        await upload.run()
        if upload.failure is not None:
            raise upload.failure
        if not upload.answered:
            heard = visitor.wire.bytes_in > before
            raise NoAnswer(f"no answer to a ping with {PIECE} bytes", heard=heard)
        size = upload.answered * PIECE
        step.facts |= {
            "sent_bytes": size,
            "up_rate": round(size / max(upload.ended - since, 1e-6)),
        }
        step.diagnosis = Diagnosis(
            "from here to the server, over one connection, by pings with a payload; a fast and "
            "long link carries more, since this is short.  The way down is not measured"
        )
