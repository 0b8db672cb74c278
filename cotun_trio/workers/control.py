"""The messages between a supervisor and its workers: bytes in, messages out.

A message is a head (the size of its body, its kind, the number of the question that it asks or
answers, 0 if neither) and a body: its fields as a JSON list.  Both are of the same build, so there
are no versions.  But the supervisor trusts no message of a worker, since a worker talks to the
network.  The one exception in form is `Begin`, which only goes to a worker: the supervisor packs
its body as it likes.

Connections go another way: `cotun_trio.workers.handover`.
"""

from __future__ import annotations

import json
import math
import struct
import types
import typing
from typing import Any, ClassVar, TypeVar

import attrs

from cotun_trio.errors import ProtocolError
from cotun_trio.protocol.bounded_json import load_json
from cotun_trio.server.reverse_listeners import Yielded
from cotun_trio.snapshot import Figures

HEAD = struct.Struct("!IBI")
MAX_BODY = 1024 * 1024
"""Bytes: the settings are the longest body of all."""


class Message:
    """The root of all messages."""

    __slots__ = ()
    is_answer: ClassVar[bool] = False
    """Whether it answers the question with its number."""


M = TypeVar("M", bound=Message)


# ---- from the supervisor


@attrs.frozen
class Begin(Message):
    """The first message: everything that a worker has to know."""

    payload: bytes = attrs.field(repr=False)


@attrs.frozen
class Drain(Message):
    """The worker has to end, after its connections."""


@attrs.frozen
class Reload(Message):
    """The worker has to read users and certificate again; a question, answered by `Done`."""


@attrs.frozen
class Count(Message):
    """A question for the figures of a worker, answered by `Counted`."""


@attrs.frozen
class Ping(Message):
    """A question whether a worker answers; the answer is `Done`."""


@attrs.frozen
class Barred(Message):
    """No login from this source is accepted for so many seconds."""

    source: str
    seconds: float


# ---- from a worker


@attrs.frozen
class Ready(Message):
    """The worker can serve connections."""


@attrs.frozen
class CannotServe(Message):
    """The worker cannot serve, and ends."""

    reason: str


@attrs.frozen
class Leaving(Message):
    """Something other than the supervisor wants the worker to end."""


@attrs.frozen
class Sessions(Message):
    """The number of open sessions has changed."""

    count: int


@attrs.frozen
class LoginFailed(Message):
    """A login from this source has failed; a question, answered by `Penalty`."""

    source: str


@attrs.frozen
class Farewell(Message):
    """The last message of a worker that ends in order: the figures of its life."""

    figures: Figures


# ---- either way


@attrs.frozen
class Claim(Message):
    """A session wants to listen at this place; a question, answered by `Yield`.

    A worker asks the supervisor, and the supervisor asks all other workers.
    """

    local_host: str
    local_port: int
    local_path: str
    udp: bool
    identity: str
    user_name: str | None


# ---- answers


@attrs.frozen
class Done(Message):
    """The answer to `Ping` and `Reload`."""

    is_answer = True


@attrs.frozen
class Counted(Message):
    """The figures of a worker at present."""

    figures: Figures
    is_answer = True


@attrs.frozen
class Penalty(Message):
    """The price of a failed login; see `cotun_trio.access.penalties.Verdict`."""

    delay: float
    barred_for: float
    is_answer = True


@attrs.frozen
class Yield(Message):
    """The outcome of a claim."""

    outcome: Yielded
    is_answer = True


_KINDS: tuple[type[Message], ...] = (
    Begin, Drain, Reload, Count, Ping, Barred, Ready, CannotServe, Leaving, Sessions,
    LoginFailed, Farewell, Claim, Done, Counted, Penalty, Yield,
)  # fmt: skip
_NUMBERS = {kind: number for number, kind in enumerate(_KINDS)}
_HINTS = {
    kind: {n: hint for n, hint in typing.get_type_hints(kind).items() if n != "is_answer"}
    for kind in (*_KINDS, Figures)
}


def encode(message: Message, number: int = 0) -> bytes:
    """Return `message` as bytes; `number` is that of the question."""
    values = message.payload if isinstance(message, Begin) else _values(message)
    body = values if isinstance(values, bytes) else json.dumps(values).encode()
    return HEAD.pack(len(body), _NUMBERS[type(message)], number) + body


def _values(thing: Any) -> list[Any]:
    values = attrs.astuple(thing, recurse=False)
    return [
        _values(value)
        if isinstance(value, Figures)
        else value.value
        if isinstance(value, Yielded)
        else value
        for value in values
    ]


class Decoder:
    """Takes bytes as they come, and gives messages."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[tuple[Message, int]]:
        """Return the messages that are complete now, each with the number of its question.

        Raises `ProtocolError` for other bytes; nothing can be read after that.
        """
        self._data += data
        messages = []
        while len(self._data) >= HEAD.size:
            size, kind, number = HEAD.unpack_from(self._data)
            if size > MAX_BODY or kind >= len(_KINDS):
                raise ProtocolError("no message between a supervisor and a worker")
            end = HEAD.size + size
            if len(self._data) < end:
                break
            messages.append((_decode(_KINDS[kind], bytes(self._data[HEAD.size : end])), number))
            del self._data[:end]
        return messages


def _decode(kind: type[Message], body: bytes) -> Message:
    if kind is Begin:
        return Begin(body)
    try:
        message: Message = _build(kind, load_json(body.decode()))
    except ValueError:
        raise ProtocolError(f"a malformed {kind.__name__} from a worker") from None
    return message


def _build(kind: type[Any], values: Any) -> Any:
    """Raises `ValueError`."""
    hints = _HINTS[kind]
    if not isinstance(values, list) or len(values) != len(hints):
        raise ValueError
    return kind(**{n: _read(hint, v) for (n, hint), v in zip(hints.items(), values, strict=True)})


def _read(hint: Any, value: Any) -> Any:
    if hint is Figures:
        return _build(Figures, value)
    if hint is Yielded:
        return Yielded(value)
    allowed = hint.__args__ if isinstance(hint, types.UnionType) else (hint,)
    if type(value) not in allowed or (type(value) is float and not math.isfinite(value)):
        raise ValueError
    return value
