"""A socket between a supervisor and a worker, and the messages on it: questions and answers.

Sending never waits: messages that the other end does not take yet are kept, and a task sends them
later.  They stay few, since neither end has much to say; and a worker that takes nothing any more
is noticed, because it does not answer.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING, TypeVar

import trio
from trio.lowlevel import wait_readable, wait_writable

from cotun_trio.errors import CotunError, ProtocolError
from cotun_trio.net.sockets import close
from cotun_trio.workers.control import Decoder, Message, encode

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

READ_SIZE = 64 * 1024
MAX_PARTS = 64
"""Messages of one answer."""

M = TypeVar("M", bound=Message)


class LinkLost(CotunError):
    """The other end is gone."""


class Received:
    """A message from the other end; its answer must have the same `number`."""

    __slots__ = ("message", "number")

    def __init__(self, message: Message, number: int) -> None:
        self.message = message
        self.number = number


class ControlLink:
    """One end, on a connected Unix stream socket, which it owns.

    `run` and `hear` it; `close` it at the end.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._waiting: deque[bytes] = deque()
        self._not_empty = trio.Event()
        self._decoder = Decoder()
        self._numbers = itertools.count(1)
        self._asked: dict[int, tuple[trio.Event, list[Message]]] = {}  # and what has come
        self._lost = False
        self._all_sent = trio.lowlevel.ParkingLot()

    # ---- sending

    def send(self, message: Message, *, number: int = 0) -> None:
        """Send a message; `number` is that of the question that it answers."""
        if self._lost:
            return
        self._waiting.append(encode(message, number))
        if len(self._waiting) == 1:
            self._flush()

    async def ask(self, question: Message, kind: type[M]) -> M:
        """Send a question, and return its answer.  Raises `LinkLost`."""
        return (await self.ask_for_all(question, kind))[0]

    async def ask_for_all(self, question: Message, kind: type[M]) -> list[M]:
        """Send a question, and return all messages of its answer.  Raises `LinkLost`."""
        if self._lost:
            raise LinkLost("the link between the processes is lost")
        number = next(self._numbers) & 0xFFFFFFFF
        answered, answers = self._asked[number] = trio.Event(), []
        try:
            self.send(question, number=number)
            await answered.wait()
        finally:
            del self._asked[number]
        found = [answer for answer in answers if isinstance(answer, kind)]
        if not found or not found[-1].is_last:
            raise LinkLost("the link between the processes is lost")
        return found

    async def run(self) -> None:
        """Send messages that had to wait, until cancelled."""
        while True:
            await self._not_empty.wait()
            self._not_empty = trio.Event()
            while self._waiting and not self._lost:
                try:
                    await wait_writable(self._sock)
                except trio.ClosedResourceError:
                    return
                self._flush()

    async def all_sent(self, timeout: float) -> None:
        """Wait until everything is sent, or for `timeout` seconds."""
        with trio.move_on_after(timeout):
            while self._waiting and not self._lost:
                await self._all_sent.park()

    def _flush(self) -> None:
        while self._waiting:
            data = self._waiting[0]
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                self._not_empty.set()
                return
            except OSError:
                self._lose()
                return
            self._waiting.popleft()
            if sent < len(data):
                self._waiting.appendleft(data[sent:])
        self._all_sent.unpark_all()

    # ---- receiving

    async def hear(self, heard: Callable[[Received], None]) -> None:
        """Call `heard` with each message, except answers, until one of the two ends is closed.

        Raises `ProtocolError`.
        """
        while data := await self._receive():
            try:
                messages = self._decoder.feed(data)
            except ProtocolError:
                self._lose()
                raise
            for message, number in messages:
                if message.is_answer:
                    self._answered(message, number)
                else:
                    heard(Received(message, number))
        self._lose()

    async def _receive(self) -> bytes:
        while True:
            try:
                return self._sock.recv(READ_SIZE)
            except BlockingIOError:
                try:
                    await wait_readable(self._sock)
                except trio.ClosedResourceError:
                    return b""
            except OSError:
                return b""

    def _answered(self, message: Message, number: int) -> None:
        if number in self._asked:  # or its question was cancelled
            answered, answers = self._asked[number]
            answers.append(message)
            if message.is_last or len(answers) == MAX_PARTS:
                answered.set()

    # ---- the end

    def _lose(self) -> None:
        self._lost = True
        self._all_sent.unpark_all()
        for answered, _ in self._asked.values():
            answered.set()

    def close(self) -> None:
        """Close the socket; messages that have not been sent are dropped."""
        self._lose()
        self._waiting.clear()
        close(self._sock)
