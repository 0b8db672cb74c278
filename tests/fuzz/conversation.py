"""A connection that has logged in, and a peer that says anything: what an input has them do.

`Conversation.run` carries out an input, and checks after each step what has to hold of channels,
windows and answers.  What it notes must not depend on where the peer's bytes are cut.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from cotun_trio.errors import ConnectionLost, CotunError
from cotun_trio.protocol.dialect import MARK
from cotun_trio.ssh import messages
from cotun_trio.ssh.channel import copier
from cotun_trio.ssh.connection import Connection
from cotun_trio.ssh.global_requests import MAX_UNANSWERED
from cotun_trio.ssh.sender import MAX_HELD_BYTES
from cotun_trio.ssh.window import WINDOW
from tests.fuzz import turns
from tests.fuzz.engines import engine_and_peer
from tests.fuzz.oracle import check_text
from tests.support.ssh import channel_data, take_out
from tests.support.ssh_connection import MemoryCarrier, Recorder, RecordingSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.ssh.channel import Channel
    from cotun_trio.ssh.openings import OutgoingOpen
    from tests.fuzz.oracle import Program
    from tests.support.ssh import Side

MAX_CHANNELS = 8
MAX_STEPS = 300
"""Steps of one input: some make messages of 16 KiB."""
_PATTERN = bytes(range(256)) * 64


class Conversation:
    """One input, carried out on one `side`; `cut` says how the peer's bytes arrive."""

    def __init__(self, side: Side, cut: Callable[[bytes], list[bytes]], *, ours: bool) -> None:
        """The peer says that it is one of `ours`, or it does not."""
        engine, self.peer = engine_and_peer(side, "logged in")
        engine.peer_version += MARK if ours else ""
        self.carrier = MemoryCarrier()
        self.handler = Recorder()
        self.connection = Connection(
            engine,
            self.carrier,
            self.handler,
            channel_type=b"chisel",
            max_channels=MAX_CHANNELS,
        )
        self.notes: list[object] = []
        """What came of it all."""
        self.sinks: dict[Channel, RecordingSink] = {}
        self.channels: list[Channel] = []
        self._cut = cut
        self._asked: list[OutgoingOpen] = []
        self._said: list[bytes] = []  # by the peer, and not yet on its way
        self._closed: set[int] = set()  # the peer's numbers, of channels that we have closed

    def run(self, program: Program) -> None:
        """Carry out `program`, up to its end or to the first error."""
        try:
            for _ in range(MAX_STEPS):
                if not program:
                    break
                self._step(program)
            self._deliver()
        except CotunError as error:
            check_text(error)
            self.notes.append((type(error), str(error)))
            self._lose(error)
        self._hear()
        self.notes += [
            (bytes(sink.data), sink.told, channel.bytes_in) for channel, sink in self.sinks.items()
        ]
        self.notes += [(opening.kind, opening.extra) for opening in self.handler.openings]
        self.notes += [(request.kind, request.payload) for request in self.handler.requests]
        self.notes += [type(failure) for failure in self.handler.failures]

    def _lose(self, error: CotunError) -> None:
        """End the connection, as the wire does, and the channels, as those who use them do."""
        self._hear()
        self.connection.on_lost(error)
        assert not self.connection.channels
        assert all(pending.answered.is_set() for pending in self._asked)
        for channel in self.channels:
            channel.flush_backlog()
            channel.send_eof()
            channel.close()
            assert not channel.sendable
        assert not self.carrier.kernel, "something is sent behind the end"

    def _step(self, program: Program) -> None:
        steps = _SAYS + _DOES
        step = steps[program.number() % len(steps)]
        if step in _SAYS:
            self._said.append(step(self, program))
        else:
            self._deliver()  # a step of ours is between two reads
            step(self, program)
            self._check()

    def _deliver(self) -> None:
        """Have arrive what the peer has said, in one batch."""
        for payload in self._said:
            self.peer.packetizer.send_payload(payload)
        self._said.clear()
        if data := take_out(self.peer):
            turns.receive(self.connection, self._cut(data))
        for pending in self._asked:
            self._use(pending.channel, 100)
        self._check()
        self._hear()

    def _hear(self) -> None:
        """Have the peer hear what was said: packets that it can read, and nothing after a CLOSE."""
        with contextlib.suppress(ConnectionLost):  # a DISCONNECT
            while self.carrier.kernel:
                for payload in turns.events(self.peer, self.carrier.take()):
                    self._note(payload if isinstance(payload, bytes) else b"")

    def _note(self, payload: bytes) -> None:
        self.notes.append(payload)
        kind, number = payload[:1], int.from_bytes(payload[1:5])
        if kind and messages.CHANNEL_WINDOW_ADJUST <= kind[0] <= messages.CHANNEL_FAILURE:
            assert number not in self._closed, "a message for a channel that we have closed"
            if kind[0] == messages.CHANNEL_CLOSE and len(self._numbers(number)) < 2:
                self._closed.add(number)

    def _numbers(self, number: int) -> list[Channel]:
        """Return the channels that have the peer's `number`: it may have given it twice."""
        return [channel for channel in self.channels if channel.peer_number == number]

    def _check(self) -> None:
        """Check what has to hold between two reads."""
        connection, table = self.connection, self.connection._table
        places = len(connection.channels) + len(table._opens) + table._incoming
        assert places <= MAX_CHANNELS
        assert len(connection._requests._peers) <= MAX_UNANSWERED
        assert connection.sender._held_size <= MAX_HELD_BYTES
        assert not table._touched
        for channel in connection.channels.values():
            assert channel.window >= 0
            assert 0 <= channel.out_window < 2**32
            # All that may be kept is what the window allows.
            assert channel.window + len(channel._backlog) <= WINDOW
            assert not channel._views

    # ---- what the peer says

    def _raw(self, program: Program) -> bytes:
        return program.string() or b"\2"

    def _open(self, program: Program) -> bytes:
        number, window, size = program.number(), program.number(3), program.number(2)
        return messages.channel_open(b"chisel", number, window, size, program.string())

    def _data(self, program: Program) -> bytes:
        return channel_data(program.number(), _PATTERN[: program.number(2) & 0x3FFF])

    def _extended(self, program: Program) -> bytes:
        head = messages.about_channel(messages.CHANNEL_EXTENDED_DATA, program.number())
        return head + bytes(4) + messages.string(_PATTERN[: program.number(2) & 0x3FFF])

    def _adjust(self, program: Program) -> bytes:
        return messages.window_adjust(program.number(), program.number(4))

    def _eof(self, program: Program) -> bytes:
        return messages.about_channel(messages.CHANNEL_EOF, program.number())

    def _close(self, program: Program) -> bytes:
        return messages.about_channel(messages.CHANNEL_CLOSE, program.number())

    def _confirmation(self, program: Program) -> bytes:
        numbers = program.number(), program.number(), program.number(3), program.number(2)
        return messages.open_confirmation(*numbers)

    def _failure(self, program: Program) -> bytes:
        return messages.open_failure(program.number(), program.number(), "no")

    def _request(self, program: Program) -> bytes:
        wanted = bool(program.number() & 1)
        return messages.global_request(b"ping", program.string(), want_reply=wanted)

    def _answer(self, program: Program) -> bytes:
        kinds = messages.REQUEST_SUCCESS, messages.REQUEST_FAILURE
        return bytes((kinds[program.number() & 1],)) + program.string()

    def _channel_request(self, program: Program) -> bytes:
        head = messages.about_channel(messages.CHANNEL_REQUEST, program.number())
        return head + messages.string(b"shell") + bytes((program.number() & 1,))

    # ---- what we do

    def _confirm(self, program: Program) -> None:
        if self.handler.openings:
            self._use(self.handler.openings.pop(0).confirm(), program.number(2))

    def _use(self, channel: Channel, room: int) -> None:
        """Give an open channel a sink."""
        if channel not in self.sinks and channel.out_max:
            self.channels.append(channel)
            self._closed.discard(channel.peer_number)
            self.sinks[channel] = RecordingSink(room)
            channel.attach(self.sinks[channel])

    def _refuse(self, program: Program) -> None:
        if self.handler.openings:
            self.handler.openings.pop(0).refuse(program.number(), "no")

    def _ask(self, program: Program) -> None:
        self._asked.append(self.connection.ask(program.string()))

    def _chosen(self, program: Program) -> Channel | None:
        number = program.number()
        return self.channels[number % len(self.channels)] if self.channels else None

    def _we_close(self, program: Program) -> None:
        if channel := self._chosen(program):
            channel.close()

    def _we_end(self, program: Program) -> None:
        if channel := self._chosen(program):
            channel.send_eof(close=bool(program.number() & 1))

    def _we_send(self, program: Program) -> None:
        channel, size = self._chosen(program), program.number(2)
        if channel is not None and channel.sendable and not channel.eof_sent:
            window, data = channel.out_window, memoryview(_PATTERN)[: size & 0x3FFF]
            sent = channel.send_from(copier(data), len(data))
            assert sent <= min(window, channel.out_max)
            assert channel.out_window == window - sent

    def _we_take(self, program: Program) -> None:
        channel, room = self._chosen(program), program.number(2)
        if channel is not None:
            self.sinks[channel].room = 64 * room
            channel.flush_backlog()

    def _we_answer(self, program: Program) -> None:
        success, payload = bool(program.number() & 1), program.string()
        if self.handler.requests:
            self.handler.requests.pop(0).reply(payload, success=success)

    def _we_request(self, program: Program) -> None:
        self.connection._requests.make("ping", program.string())

    def _clog(self, program: Program) -> None:
        self.carrier.clogged = bool(program.number() & 1)

    def _we_rekey(self, program: Program) -> None:
        self.connection.engine.start_rekey()
        self.connection.start()  # sends what is waiting

    def _peer_rekeys(self, program: Program) -> None:
        self.peer.start_rekey()


_SAYS = (
    Conversation._raw,
    Conversation._open,
    Conversation._data,
    Conversation._extended,
    Conversation._adjust,
    Conversation._eof,
    Conversation._close,
    Conversation._confirmation,
    Conversation._failure,
    Conversation._request,
    Conversation._answer,
    Conversation._channel_request,
)
_DOES = (
    Conversation._confirm,
    Conversation._refuse,
    Conversation._ask,
    Conversation._we_close,
    Conversation._we_end,
    Conversation._we_send,
    Conversation._we_take,
    Conversation._we_answer,
    Conversation._we_request,
    Conversation._clog,
    Conversation._we_rekey,
    Conversation._peer_rekeys,
)
