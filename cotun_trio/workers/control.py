"""The messages between a supervisor and its workers: bytes in, messages out.

A message is a head (the size of its body, its kind, the number of the question that it asks or
answers, 0 if neither) and a body: its fields as a JSON list.  Both are of the same build, so there
are no versions.  But the supervisor trusts no message of a worker, since a worker talks to the
network.  The one exception in form is `Begin`, which only goes to a worker: the supervisor packs
its body as it likes.

Connections go another way: `cotun_trio.workers.handover`.
"""

import json
import struct
from typing import ClassVar, TypeVar

import attrs
from attrs.validators import deep_mapping, max_len

from cotun_trio.errors import ProtocolError
from cotun_trio.logs import Level
from cotun_trio.logs.events import MAX_FACT
from cotun_trio.protocol.bounded_json import load_json
from cotun_trio.server.reverse_listeners import Yielded
from cotun_trio.workers import values
from cotun_trio.workers.account import Account

HEAD = struct.Struct("!IBI")
MAX_BODY = 1024 * 1024
"""Bytes: the settings are long, and a session with all of its remotes can be longer."""
MAX_FACTS, MAX_NAME = 32, 40
"""Facts of an event, and characters of their names."""


class Message:
    """The root of all messages."""

    __slots__ = ()
    is_answer: ClassVar[bool] = False
    """Whether it answers the question with its number."""

    @property
    def is_last(self) -> bool:
        """Whether the answer ends with it."""
        return True


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
class LogTasks(Message):
    """The worker has to log its tasks, where its log is that detailed."""


@attrs.frozen
class Look(Message):
    """An administrator's question to a worker; the answer is one or more `Seen`.

    It is the name of a method of `cotun_trio.admin.watched.Watched`, and its arguments.
    """

    name: str
    arguments: tuple[str, ...]


@attrs.frozen
class Ping(Message):
    """A question whether a worker answers; the answer is `Done`."""


@attrs.frozen
class Barred(Message):
    """No login from this source is accepted for so many seconds."""

    source: str
    seconds: float


@attrs.frozen
class Lifted(Message):
    """Logins from this source are accepted again; None: from all sources."""

    source: str | None


@attrs.frozen
class LogLevel(Message):
    """The worker has to log at this level; see `cotun_trio.logs.LEVELS`."""

    level: Level


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
    """The last message of a worker that ends in order: the account of its life."""

    account: Account


@attrs.frozen
class Happened(Message):
    """An event of a worker; see `cotun_trio.logs.events.Event`."""

    at: float
    kind: str = attrs.field(validator=max_len(MAX_NAME))
    facts: dict[str, str] = attrs.field(
        validator=[max_len(MAX_FACTS), deep_mapping(max_len(MAX_NAME), max_len(MAX_FACT))]
    )


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
class Seen(Message):
    """Items of the answer to a `Look`; the last ones where there are no `more`."""

    items: tuple[object, ...]
    more: bool
    is_answer = True

    @property
    def is_last(self) -> bool:
        """See `Message`."""
        return not self.more


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
    Begin, Drain, Reload, LogTasks, Look, Ping, Barred, Lifted, LogLevel, Ready, CannotServe,
    Leaving, Sessions, LoginFailed, Farewell, Happened, Claim, Done, Seen, Penalty, Yield,
)  # fmt: skip
_NUMBERS = {kind: number for number, kind in enumerate(_KINDS)}


def encode(message: Message, number: int = 0) -> bytes:
    """Return `message` as bytes; `number` is that of the question."""
    if isinstance(message, Begin):
        body = message.payload
    else:
        body = json.dumps(values.pack(message)).encode()
    return HEAD.pack(len(body), _NUMBERS[type(message)], number) + body


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
        return values.unpack(kind, load_json(body.decode()))
    except ValueError:
        raise ProtocolError(f"a malformed {kind.__name__} from a worker") from None
