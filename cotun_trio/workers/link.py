"""A socket between a supervisor and a worker: messages, and descriptors that go along with them.

Sending never waits: what the other end does not take yet is kept, and sent later by a task of ours.
The two are on one machine, and neither has many things to say; a worker that takes nothing any more
is noticed, because it does not answer.

A descriptor is sent with the first bytes of its message (SCM_RIGHTS, unix(7)).  A receiver that has
no room for one loses it; then the message comes without.
"""

from __future__ import annotations

import array
import itertools
import os
import socket
from collections import deque
from typing import TYPE_CHECKING, TypeVar

import trio
from trio.lowlevel import wait_readable, wait_writable

from cotun_trio.errors import CotunError, ProtocolError
from cotun_trio.net.sockets import close
from cotun_trio.workers.control import Decoder, Message, encode

if TYPE_CHECKING:
    from collections.abc import Callable

READ_SIZE = 64 * 1024
_ROOM = socket.CMSG_SPACE(4 * array.array("i").itemsize)
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

M = TypeVar("M", bound=Message)


class LinkLost(CotunError):
    """The other end is gone."""


class Received:
    """A message from the other end; `number` is what its answer has to have.

    `descriptor` is yours: -1 where none came.
    """

    __slots__ = ("descriptor", "message", "number")

    def __init__(self, message: Message, number: int, descriptor: int) -> None:
        self.message = message
        self.number = number
        self.descriptor = descriptor


class Link:
    """One end, on a connected Unix stream socket, which it owns.

    `carrying` says which messages come with a descriptor; None: none does.  `run` and
    `hear` it; `close` it at the end.
    """

    def __init__(self, sock: socket.socket, carrying: type[Message] | None) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._carrying = carrying
        self._waiting: deque[tuple[bytes, socket.socket | None]] = deque()
        self._not_empty = trio.Event()
        self._decoder = Decoder()
        self._room = 0 if carrying is None else _ROOM
        self._descriptors: deque[int] = deque()
        self._numbers = itertools.count(1)
        self._asked: dict[int, tuple[trio.Event, list[Message]]] = {}  # and the answer, in a list
        self._lost = False
        self._all_sent = trio.lowlevel.ParkingLot()

    # ---- sending

    def send(self, message: Message, sock: socket.socket | None = None, *, number: int = 0) -> None:
        """Send a message, with `sock`, which is ours from now on, and closed when it is sent."""
        if self._lost:
            if sock is not None:
                sock.close()
            return
        self._waiting.append((encode(message, number), sock))
        if len(self._waiting) == 1:
            self._flush()

    async def ask(self, question: Message, kind: type[M]) -> M:
        """Send a question, and return its answer.  Raises `LinkLost`."""
        if self._lost:
            raise LinkLost("the link between the processes is lost")
        number = next(self._numbers) & 0xFFFFFFFF
        answered, answers = self._asked[number] = trio.Event(), []
        try:
            self.send(question, number=number)
            await answered.wait()
        finally:
            del self._asked[number]
        if not answers or not isinstance(answers[0], kind):
            raise LinkLost("the link between the processes is lost")
        return answers[0]

    async def run(self) -> None:
        """Send what has to wait, until cancelled."""
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
        """Wait until nothing has to be sent any more, or for `timeout` seconds."""
        with trio.move_on_after(timeout):
            while self._waiting and not self._lost:
                await self._all_sent.park()

    def _flush(self) -> None:
        while self._waiting:
            data, sock = self._waiting[0]
            along = []
            if sock is not None:
                numbers = array.array("i", [sock.fileno()])
                along = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)]
            try:
                sent = self._sock.sendmsg([data], along)
            except BlockingIOError:
                self._not_empty.set()
                return
            except OSError:
                self._lose()
                return
            if sock is not None:
                sock.close()
            self._waiting.popleft()
            if sent < len(data):
                self._waiting.appendleft((data[sent:], None))
        self._all_sent.unpark_all()

    # ---- receiving

    async def hear(self, heard: Callable[[Received], None]) -> None:
        """Call `heard` with what comes, but for answers, up to the end of the other side, or ours.

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
                    continue
                descriptor = -1
                if self._carrying is not None and isinstance(message, self._carrying):
                    descriptor = self._descriptors.popleft() if self._descriptors else -1
                heard(Received(message, number, descriptor))
        self._lose()

    async def _receive(self) -> bytes:
        while True:
            try:
                data, along, flags, _ = self._sock.recvmsg(READ_SIZE, self._room, _CLOEXEC)
            except BlockingIOError:
                try:
                    await wait_readable(self._sock)
                except trio.ClosedResourceError:
                    return b""
                continue
            except OSError:
                return b""
            found = array.array("i")
            for level, kind, content in along:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    found.frombytes(content[: len(content) - len(content) % found.itemsize])
            self._descriptors += found
            if flags & socket.MSG_CTRUNC and self._room and not found:
                self._descriptors.append(-1)  # there was no room: its message comes without
            return data

    def _answered(self, message: Message, number: int) -> None:
        if number in self._asked:  # or nobody wants to know any more
            answered, answers = self._asked[number]
            answers.append(message)
            answered.set()

    # ---- the end

    def _lose(self) -> None:
        self._lost = True
        self._all_sent.unpark_all()
        for answered, _ in self._asked.values():
            answered.set()

    def unsent(self) -> list[tuple[Message, socket.socket]]:
        """Return the connections that the other end has never been given; they are yours."""
        found = []
        for data, sock in self._waiting:
            if sock is not None:
                ((message, _),) = Decoder().feed(data)
                found.append((message, sock))
        self._waiting.clear()
        return found

    def close(self) -> None:
        """Close it, and whatever has not been sent or taken."""
        self._lose()
        for _, sock in self.unsent():
            sock.close()
        for descriptor in self._descriptors:
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptors.clear()
        close(self._sock)
