"""The first steps: a name, and TCP to each of its addresses.

The client itself takes the first address that answers, and so never shows that another one leads
nowhere.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.client.doctor.meanings import NO_FAMILY, of_name
from cotun_trio.client.doctor.step_names import StepName
from cotun_trio.client.doctor.steps import Draft, Outcome
from cotun_trio.errors import DialFailed, Shortage
from cotun_trio.escape import escape
from cotun_trio.net.dial import ATTEMPT_DELAY, dial_tcp
from cotun_trio.net.names import look_up
from cotun_trio.protocol.addresses import join_host_port
from cotun_trio.protocol.http_answer import Diagnosis
from cotun_trio.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.client.doctor.steps import Steps
    from cotun_trio.net.names import Address

NAME_TIMEOUT = 12.0
"""Seconds for a look-up: resolvers ask each name server twice, for five seconds each (RFC 1123
section 6.1.3.3 leaves it to them)."""
ADDRESS_TIMEOUT = 5.0
"""Seconds for TCP to one address: two repetitions of a lost SYN (RFC 6298)."""


async def find_addresses(steps: Steps, host: str) -> list[Address]:
    """Look `host` up, which is a step.  Raises `DialFailed`."""
    shown = escape(host)
    with steps.step(StepName.NAME) as step:
        try:
            with trio.fail_after(NAME_TIMEOUT):
                addresses = await look_up(host)
        except trio.TooSlowError:
            step.diagnosis = of_name(None)
            text = f"{shown}: no answer in {format_duration(NAME_TIMEOUT)}"
            raise DialFailed(text, errno.ETIMEDOUT) from None
        except Shortage:
            raise
        except OSError as error:
            step.diagnosis = of_name(error.errno)
            raise DialFailed(f"{shown}: {error.strerror}", errno.EHOSTUNREACH) from None
        step.facts |= {"host": shown, "addresses": [address for _, address in addresses]}
    return addresses


@attrs.define
class _Attempt:
    host: str
    seconds: float = 0.0
    failure: DialFailed | None = None

    async def run(self, port: int) -> None:
        since = trio.current_time()
        try:
            (await dial_tcp(self.host, port, timeout=ADDRESS_TIMEOUT)).close()
        except DialFailed as error:
            self.failure = error
        self.seconds = trio.current_time() - since


async def try_addresses(steps: Steps, addresses: Sequence[Address], port: int) -> None:
    """Connect to each of `addresses` by TCP, at the same time; each is a step.

    Raises the `DialFailed` of the first where none can be reached.
    """
    attempts = [_Attempt(host) for _, host in addresses]
    async with trio.open_nursery() as nursery:
        for attempt in attempts:
            nursery.start_soon(attempt.run, port)
    failures = [attempt.failure for attempt in attempts if attempt.failure is not None]
    works = len(failures) < len(attempts)
    for attempt in attempts:
        step = _judge(attempt, port, works=works)
        steps.add(step.end(StepName.ADDRESS, attempt.seconds))
    if not works:
        raise failures[0]


def _judge(attempt: _Attempt, port: int, *, works: bool) -> Draft:
    """Return how an attempt has ended, where another address `works` or none does."""
    step = Draft({"address": join_host_port(attempt.host, port)})
    failure = attempt.failure
    if failure is None:
        return step
    step.fail(StepName.ADDRESS, failure)
    if works and failure.errno in NO_FAMILY:
        step.outcome = Outcome.SKIPPED
        step.diagnosis = Diagnosis("this machine has no network for this kind of address")
    elif works:
        meaning = step.diagnosis.meaning if step.diagnosis is not None else ""
        step.warn(
            f"{meaning}; the client goes on to another address after "
            f"{format_duration(ATTEMPT_DELAY)}",
            "repair the way there, such as IPv6, or take this address out of the name",
        )
    return step
