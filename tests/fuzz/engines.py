"""SSH engines at three points of their life, each there again and again without a key exchange.

A key exchange takes milliseconds, so it is made once; for each input the engine is set back.
"""

from __future__ import annotations

import collections
import copy
import functools
from typing import TYPE_CHECKING, Any, Literal

from tests.support.ssh import OTHER, USER, EnginePair, make_engine, take_out

if TYPE_CHECKING:
    from cotun_trio.ssh.engine import Engine
    from tests.support.ssh import Side

Stage = Literal["new", "keys agreed", "logged in"]
_COPIED = (bytearray, list, dict, set, collections.deque)


class Saved:
    """The state of an engine, its packetizer and its Transport: what their attributes hold."""

    def __init__(self, engine: Engine) -> None:
        packetizer: Any = engine.packetizer
        self._things: list[Any] = [engine, packetizer, engine._transport]
        self._things += [
            thing
            for thing in (packetizer._inbound, packetizer._outbound, packetizer.budget)
            if thing is not None
        ]
        self._states = [_state(thing) for thing in self._things]

    def restore(self) -> None:
        """Set everything back."""
        for thing, state in zip(self._things, self._states, strict=True):
            for name in set(_names(thing)) - set(state):
                delattr(thing, name)
            for name, value in state.items():
                setattr(thing, name, _copy(value))


def _names(thing: Any) -> list[str]:
    return list(getattr(type(thing), "__slots__", None) or vars(thing))


def _state(thing: Any) -> dict[str, Any]:
    return {name: _copy(getattr(thing, name)) for name in _names(thing)}


def _copy(value: Any) -> Any:
    return copy.copy(value) if isinstance(value, _COPIED) else value


@functools.cache
def _made(side: Side, stage: Stage) -> tuple[dict[Side, Engine], list[Saved]]:
    engines: dict[Side, Engine] = {"client": make_engine("client"), "server": make_engine("server")}
    if stage == "new":
        take_out(engines[OTHER[side]])
    else:
        user = USER if stage == "logged in" else None
        EnginePair(engines["client"], engines["server"], user=user).run()
    # What the pair wanted to hear of it is no part of the engines.
    for engine in engines.values():
        vars(engine.packetizer).pop("packets", None)
    return engines, [Saved(engine) for engine in engines.values()]


def engine_and_peer(side: Side, stage: Stage) -> tuple[Engine, Engine]:
    """Return an engine, and another one that holds its keys, for what is to be said to it."""
    engines, saved = _made(side, stage)
    for one in saved:
        one.restore()
    return engines[side], engines[OTHER[side]]
