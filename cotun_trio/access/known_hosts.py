"""Known hosts: the keys of servers that a client has met, as ssh keeps them.

A line of the file is ``host:port fingerprint``; lines that begin with ``#``, and empty ones, mean
nothing.  Several clients may use a file at once: each reads it at each meeting, and writes it under
a lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cotun_trio.access.files import read_file
from cotun_trio.errors import FingerprintMismatch, UsageError
from cotun_trio.escape import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_SIZE = 16 * 1024 * 1024
"""Bytes of a file that are looked at."""


def default_path(environment: Mapping[str, str]) -> str:
    """Return where the file is by default: in the XDG state directory."""
    state = environment.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111
    return os.path.join(state, "cotun-trio", "known_hosts")  # noqa: PTH118  text, as given


class KnownHosts:
    """The file at `path`, which need not be there yet."""

    def __init__(self, path: str) -> None:
        self.path = path

    def find(self, server: str) -> str | None:
        """Return the fingerprint of a server, ``host:port``; None where it is not known.

        Raises `UsageError` where the file cannot be read, or others can change it.
        """
        return next((known for name, known in self._entries() if name == server), None)

    def meet(self, server: str, fingerprint: str) -> bool:
        """Note that a server has shown this key; return whether it was not known before.

        Raises `FingerprintMismatch` where another one is known, and `UsageError`.
        """
        if self.knows(server, fingerprint):
            return False
        self._append(f"{server} {fingerprint}\n")
        return True

    def knows(self, server: str, fingerprint: str) -> bool:
        """Return whether a server is known, by this key.  Nothing is written.

        Raises `FingerprintMismatch` where another one is known, and `UsageError`.
        """
        known = self.find(server)
        if known is not None and known != fingerprint:
            raise FingerprintMismatch(
                f"Invalid fingerprint ({fingerprint}): {escape(self.path)} has {escape(known)} for "
                f"{escape(server)}.  Either the server has a new key, or an attacker poses as the "
                f"server.  If you know that the key is new: cotun-trio forget {escape(server)} "
                f"--known-hosts {escape(self.path)}"
            )
        return known is not None

    def forget(self, server: str) -> bool:
        """Take a server out of the file; return whether it was in it.  Raises `UsageError`."""
        if self.find(server) is None:
            return False
        with self._locked() as file:
            kept = [line for line in self._lines() if line.split()[:1] != [server]]
            try:
                file.truncate(0)
                file.write("".join(f"{line}\n" for line in kept).encode())
            except OSError as error:
                raise self._failed("write", error) from None
        return True

    def _lines(self) -> list[str]:
        try:
            data = read_file(self.path, most=MAX_SIZE, secret=True).data
            return data.decode().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._failed("read", error) from None
        except UnicodeDecodeError:
            raise UsageError(f"the known hosts {escape(self.path)} are not UTF-8") from None
        except ValueError:  # a NUL in it
            raise UsageError(f"'{escape(self.path)}' is not a path") from None
        except UsageError as error:
            raise UsageError(f"the known hosts {error}") from None

    def _entries(self) -> Iterator[tuple[str, str]]:
        for number, line in enumerate(self._lines(), 1):
            words = line.split()
            if not words or line.startswith("#"):
                continue
            if len(words) != 2:
                raise UsageError(
                    f"the known hosts {escape(self.path)}, line {number}: not of the form "
                    "'host:port fingerprint'"
                )
            yield words[0], words[1]

    def _append(self, line: str) -> None:
        try:
            Path(self.path).absolute().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._failed("write", error) from None
        with self._locked() as file:
            file.write(line.encode())

    @contextlib.contextmanager
    def _locked(self) -> Iterator[_File]:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            descriptor = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise self._failed("write", error) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield _File(descriptor)
        except OSError as error:
            raise self._failed("write", error) from None
        finally:
            os.close(descriptor)

    def _failed(self, verb: str, error: OSError) -> UsageError:
        return UsageError(f"cannot {verb} the known hosts {escape(self.path)}: {error.strerror}")


class _File:
    """A file by its descriptor, without a buffer."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def truncate(self, size: int) -> None:
        """Cut it."""
        os.ftruncate(self._descriptor, size)

    def write(self, data: bytes) -> None:
        """Write all of `data` at its end."""
        while data:
            data = data[os.write(self._descriptor, data) :]
