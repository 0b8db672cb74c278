"""Unix-domain sockets: listening on a path, and dialling one."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import trio

from cotun_trio.errors import DialFailed, Shortage, UsageError
from cotun_trio.escape import escape
from cotun_trio.net.descriptors import refuse_reserved
from cotun_trio.net.dial import BACKLOG

MODE = 0o600
"""Only our own user may connect: there is no other check on a socket file."""
RETRY = 0.05
"""Seconds between two tries at a listener whose queue is full."""


def listen_unix(path: str) -> socket.socket:
    """Return a socket that listens at `path`.

    A socket file that nobody listens on any more is replaced.  Raises `UsageError` for a live one,
    for anything else that is there, and where the file cannot be made.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        try:
            _bind(sock, path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _remove_stale(path)
            _bind(sock, path)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise UsageError(f"cannot listen on unix:{escape(path)}: {error.strerror}") from None
    except BaseException:
        sock.close()
        raise
    return sock


def _bind(sock: socket.socket, path: str) -> None:
    # The mask makes the file private from its first moment; nothing else runs in between.
    mask = os.umask(0o777 & ~MODE)
    try:
        sock.bind(path)
    finally:
        os.umask(mask)


def _nobody_listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        return probe.connect_ex(path) == errno.ECONNREFUSED


def _remove_stale(path: str) -> None:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise UsageError(f"cannot listen on unix:{escape(path)}: it is there, and is no socket")
    if not _nobody_listens(path):
        raise UsageError(f"cannot listen on unix:{escape(path)}: another process does")
    Path(path).unlink()


def remove_socket_file(path: str) -> None:
    """Remove the file of a listener that is closed, unless another program listens there by now."""
    # A connection to a file that is no socket is refused, too (unix(7)), but that is not ours.
    if Path(path).is_socket() and _nobody_listens(path):
        Path(path).unlink(missing_ok=True)


async def dial_unix(path: str, *, timeout: float) -> socket.socket:
    """Return a connection to the socket at `path`.  It is for a peer.

    Raises `DialFailed`, also after `timeout` seconds; `Shortage` where there are too few
    descriptors.  When cancelled, nothing is left open.
    """
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        refuse_reserved(sock)
    except OSError as error:
        number = error.errno or errno.EMFILE
        raise Shortage(f"unix:{escape(path)}: {os.strerror(number)}", number) from None
    try:
        with trio.fail_after(timeout):
            # EAGAIN: the listener's queue is full, and nothing says when it is not (connect(2)).
            while (number := sock.connect_ex(path)) == errno.EAGAIN:  # noqa: ASYNC110
                await trio.sleep(RETRY)
        if not number:
            return sock
        reason = os.strerror(number)
    except trio.TooSlowError:
        reason, number = f"no answer in {timeout:g} s", errno.ETIMEDOUT
    except BaseException:
        sock.close()
        raise
    sock.close()
    raise DialFailed(f"unix:{escape(path)}: {reason}", number)
