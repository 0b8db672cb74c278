"""The form of a peer's key exchange messages (RFC 4253 sections 7.1 and 8), checked before use.

paramiko reads them next, and trusts their lengths.
"""

from __future__ import annotations

from cotun_trio.errors import ProtocolError
from cotun_trio.ssh import messages
from cotun_trio.ssh.messages import Reader

MAX_KEY = 4096
"""Bytes of a host key or a signature: twice as many as RSA with 16,384 bits takes."""


def check_kex_init(payload: memoryview) -> None:
    """Check a KEXINIT (RFC 4253 section 7.1).  Raises `ProtocolError`."""
    reader = Reader(payload)
    reader.skip(16)
    for _ in range(10):
        if not bytes(reader.string()).isascii():
            raise ProtocolError("a list of algorithms is not ASCII")
    if reader.boolean():
        raise ProtocolError("a guessed key exchange packet is announced, which we do not take")
    reader.u32()
    reader.end()


def check_kex_request(payload: memoryview) -> None:
    """Check a client's message: its public value.  Raises `ProtocolError`.

    It has the same form in every method that we offer.
    """
    reader = Reader(payload)
    reader.string()
    reader.end()


def check_kex_reply(payload: memoryview) -> None:
    """Check a server's answer: host key, public value, signature.  Raises `ProtocolError`.

    Where the first and the last are cut short inside, paramiko fills them with zeros, up to a
    megabyte, and then takes the better part of a minute to make a number of it.
    """
    reader = Reader(payload)
    host_key, _, signature = reader.string(), reader.string(), reader.string()
    if max(len(host_key), len(signature)) > MAX_KEY:
        raise ProtocolError(f"a host key or a signature of over {MAX_KEY} bytes")
    _strings(host_key)
    algorithm, *values = _strings(signature)
    if bytes(algorithm).startswith(b"ecdsa-"):
        for value in values:
            _strings(value)  # RFC 5656 section 3.1.2: two numbers
    reader.end()


def check_new_keys(payload: memoryview) -> None:
    """Check a NEWKEYS, which has no field.  Raises `ProtocolError`."""
    Reader(payload).end()


def _strings(data: memoryview) -> list[memoryview]:
    """Split `data`, which has to be one or more SSH strings and nothing else."""
    reader = Reader(memoryview(bytes((messages.KEX_REPLY,)) + data))
    strings = [reader.string()]
    left = len(data) - 4 - len(strings[0])
    while left:
        strings.append(reader.string())
        left -= 4 + len(strings[-1])
    return strings
