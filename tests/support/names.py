"""Names that are known, or that nobody answers, in place of the system's resolver."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest
import trio

from cotun_trio.net import names
from cotun_trio.protocol.addresses import ascii_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cotun_trio.net.names import Address, Share


def know(monkeypatch: pytest.MonkeyPatch, **known: list[str]) -> list[str]:
    """Have these names, and no others, have these addresses; return where each look-up is noted.

    They are looked up without a thread: a clock that jumps would not wait for one.
    """
    asked: list[str] = []

    def ask_system(name: bytes, kind: socket.SocketKind) -> list[Address]:
        asked.append(name.decode("ascii"))
        if asked[-1] not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [address_of(text) for text in known[asked[-1]]]

    async def ask(host: str, kind: socket.SocketKind, share: Share | None) -> list[Address]:
        await trio.lowlevel.checkpoint()
        return ask_system(ascii_name(host).encode("ascii"), kind)

    monkeypatch.setattr(names, "_ask_in_thread", ask)
    return asked


def address_of(text: str) -> Address:
    """Return an address written in digits as a look-up does."""
    return (socket.AF_INET6 if ":" in text else socket.AF_INET), text


class Silence:
    """A resolver that knows some names, and does not answer others, until it is told to."""

    def __init__(self, known: dict[str, list[str]]) -> None:
        self._known = known
        self.asked: list[str] = []
        """The names that were not known, each with a thread of its own that waits, or did."""
        self._ended = threading.Semaphore(0)

    def ask_system(self, name: bytes, kind: socket.SocketKind) -> list[Address]:
        """See `cotun_trio.net.names.ask_system`."""
        text = name.decode("ascii")
        if text in self._known:
            return [address_of(address) for address in self._known[text]]
        self.asked.append(text)
        self._ended.acquire()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    def end_one(self) -> None:
        """Let one look-up fail, as it does when the resolver has no more patience."""
        self._ended.release()

    def end(self) -> None:
        """Let all look-ups fail."""
        self._ended.release(1_000_000)


@contextlib.contextmanager
def silence(**known: list[str]) -> Iterator[Silence]:
    """Have no names answered within the block, apart from the `known` ones."""
    resolver = Silence(known)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, "ask_system", resolver.ask_system)
        try:
            yield resolver
        finally:
            resolver.end()
