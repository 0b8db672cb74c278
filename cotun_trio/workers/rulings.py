"""What workers ask their supervisor: what a failed login costs, and whether a listener is free."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from cotun_trio.access.penalties import Penalties
from cotun_trio.server.reverse_listeners import Yielded
from cotun_trio.workers import control
from cotun_trio.workers.link import LinkLost

if TYPE_CHECKING:
    from collections.abc import Collection

    from cotun_trio.workers.link import Link
    from cotun_trio.workers.member import Member

PATIENCE = 2.0
"""Seconds for a worker to say what it has, four times what it gives to an old session."""


class Rulings:
    """Decides what concerns all of `members`."""

    def __init__(self, members: Collection[Member], *, per_minute: int) -> None:
        self._members = members
        self._penalties = Penalties(per_minute)

    def login_failed(self, source: str) -> control.Penalty:
        """Count a failed login, and have all know a source that is barred because of it."""
        verdict = self._penalties.failed(source, trio.current_time())
        if verdict.barred_for:
            for member in self._members:
                member.link.send(control.Barred(source, verdict.barred_for))
        return control.Penalty(verdict.delay, verdict.barred_for)

    def tell_barred(self, link: Link) -> None:
        """Have a new worker know who is barred."""
        for source, seconds in self._penalties.all_barred(trio.current_time()):
            link.send(control.Barred(source, seconds))

    async def settle(self, claim: control.Claim, claimant: Member, number: int) -> None:
        """Ask all others to yield to a session of `claimant`'s, and answer its question.

        One that is silent is not waited for.  What it listens on the kernel keeps for it, so that
        the session that claims it finds out by itself.
        """
        outcomes = [Yielded.NOTHING]

        async def ask(member: Member) -> None:
            outcome = Yielded.KEPT  # by who does not answer
            with trio.move_on_after(PATIENCE):
                try:
                    outcome = (await member.link.ask(claim, control.Yield)).outcome
                except LinkLost:
                    outcome = Yielded.NOTHING  # it is dead, and the kernel has freed all it had
            outcomes.append(outcome)

        async with trio.open_nursery() as nursery:
            for member in self._members:
                if member is not claimant and member.is_ready and not member.is_silent:
                    nursery.start_soon(ask, member)
        outcome = next(o for o in (Yielded.KEPT, Yielded.FREED, Yielded.NOTHING) if o in outcomes)
        claimant.link.send(control.Yield(outcome), number=number)
