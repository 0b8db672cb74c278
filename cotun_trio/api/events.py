"""Events of a client's tunnel, and subscriptions to them."""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING

import attrs
import trio

if TYPE_CHECKING:
    from cotun_trio.api.forwards import Forward

BUFFER = 64
"""Events that wait for one subscriber; beyond that the oldest are dropped."""


@attrs.frozen
class Connected:
    """There is a tunnel; with several connections, there is one more."""

    server: str
    """Its URL."""
    latency: float
    """Seconds that the server took to accept what the client asks for."""


@attrs.frozen
class Lost:
    """There is no tunnel at present: it was lost, or could not be had.

    With several connections, the last of them; the others are lost without an event.
    """

    reason: str
    retry_in: float
    """Seconds until the next attempt."""


@attrs.frozen
class ForwardFailed:
    """A connection of a forward was refused; or the server does not listen for it any more.

    The forward itself goes on: the next connection, or the next tunnel, may do better.
    """

    forward: Forward
    reason: str


Event = Connected | Lost | ForwardFailed


class Subscription:
    """The events from now on, as an asynchronous iterator; begins with how things are.

    Ends with the client.  Cancelling loses no event.  Each goes to one of the tasks that iterate.
    """

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=BUFFER)
        self._news = trio.lowlevel.ParkingLot()
        self._ended = False

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        await trio.lowlevel.checkpoint()
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            await self._news.park()
        return self._events.popleft()

    def add(self, event: Event) -> None:
        """Hand on an event; where too many wait, the oldest is dropped."""
        self._events.append(event)
        self._news.unpark()

    def end(self) -> None:
        """Let it end behind the events that wait."""
        self._ended = True
        self._news.unpark_all()


class Events:
    """Hands events on to all subscriptions, each of which ends by being forgotten."""

    def __init__(self) -> None:
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()
        self._present: Connected | Lost | None = None
        self._ended = False

    def subscribe(self) -> Subscription:
        """Return a new subscription."""
        subscription = Subscription()
        if self._present is not None:
            subscription.add(self._present)
        if self._ended:
            subscription.end()
        self._subscriptions.add(subscription)
        return subscription

    def publish(self, event: Event) -> None:
        """Tell everybody."""
        if not isinstance(event, ForwardFailed):
            self._present = event
        for subscription in self._subscriptions:
            subscription.add(event)

    def end(self) -> None:
        """There will be no more."""
        self._ended = True
        for subscription in self._subscriptions:
            subscription.end()
