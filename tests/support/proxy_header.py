"""PROXY headers, read by other means: as the sample in section 9 of proxy-protocol.txt does it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cotun_trio.protocol.endpoints import Endpoints

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
FAMILIES = {1: (socket.AF_INET, 4), 2: (socket.AF_INET6, 16)}
KINDS = {0x00: 0, 0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x31: 216, 0x32: 216}

Pair = tuple[tuple[bytes, int], tuple[bytes, int]]
"""The bytes of the address, and the port, of either end."""
MAPPED = bytes(10) + b"\xff\xff"


class Wrong(Exception):
    """It is no header."""


def expected(data: bytes) -> tuple[Pair | None, int] | None:
    """Return both ends and the size of the header that is whole in `data`; None where more has to
    come.  Raises `Wrong`."""
    if data[:12] == SIGNATURE[: len(data)]:
        return _binary(data)
    if data[:6] == b"PROXY "[: len(data)]:
        return _line(data)
    raise Wrong


def _binary(data: bytes) -> tuple[Pair | None, int] | None:
    if len(data) < 16:
        return None
    command, kind, size = data[12], data[13], int.from_bytes(data[14:16])
    if command not in (0x20, 0x21) or size > 4096 - 16:
        raise Wrong
    if command == 0x21 and (kind not in KINDS or size < KINDS[kind]):
        raise Wrong
    if len(data) < 16 + size:
        return None
    if command == 0x20 or kind not in (0x11, 0x21):
        return None, 16 + size
    _, width = FAMILIES[kind >> 4]
    body = data[16:]
    hosts = [body[at : at + width] for at in (0, width)]
    ports = [int.from_bytes(body[at : at + 2]) for at in (2 * width, 2 * width + 2)]
    return _pair(hosts, ports), 16 + size


def _line(data: bytes) -> tuple[Pair | None, int] | None:
    end = data.find(b"\r\n")
    if end < 0 and len(data) < 107:
        return None
    if not 0 <= end <= 105:
        raise Wrong
    words = data[:end].split(b" ")
    if words[1] == b"UNKNOWN":
        return None, end + 2
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        raise Wrong
    family, _ = FAMILIES[1 if words[1] == b"TCP4" else 2]
    hosts = []
    for word in words[2:4]:
        try:
            hosts.append(socket.inet_pton(family, word.decode("ascii")))
        except (OSError, ValueError):
            raise Wrong from None
    for word in words[4:]:
        if not word.isdigit() or str(int(word)) != word.decode() or int(word) > 65535:
            raise Wrong
    return _pair(hosts, [int(word) for word in words[4:]]), end + 2


def _pair(hosts: list[bytes], ports: list[int]) -> Pair:
    source, destination = (host.removeprefix(MAPPED) for host in hosts)
    return (source, ports[0]), (destination, ports[1])


def pair_of(endpoints: Endpoints | None) -> Pair | None:
    """Return what `expected` has for `endpoints`."""
    if endpoints is None:
        return None
    source, destination = (
        (
            socket.inet_pton(socket.AF_INET6 if ":" in each.host else socket.AF_INET, each.host),
            each.port,
        )
        for each in (endpoints.source, endpoints.destination)
    )
    return source, destination
