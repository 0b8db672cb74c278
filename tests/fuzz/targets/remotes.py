"""What a user writes as a remote, and what a peer sends as the target of a channel."""

from __future__ import annotations

import attrs

from cotun_trio.errors import ProtocolError, UsageError
from cotun_trio.protocol.addresses import canonical_host
from cotun_trio.protocol.config import MAX_REMOTES, Config
from cotun_trio.protocol.port_ranges import parse_range
from cotun_trio.protocol.proxy_header import proxy_header
from cotun_trio.protocol.remote import Remote
from cotun_trio.protocol.remote_options import RemoteOptions
from cotun_trio.protocol.target import Target, parse_target
from cotun_trio.protocol.visitor_address import split_visitor, with_visitor
from tests.fuzz.oracle import Work, check_text

LONGEST = 1100
WORDS = (
    b"R:",
    b"socks",
    b"stdio",
    b"unix:/",
    b"unix:./",
    b"/udp",
    b"/tcp",
    b"[::1]",
    b"%eth0",
    b"RP:",
    b",proxy=v2",
    b",allow=10.0.0.0/8",
    b",a=b,",
    b"\0from=1.2.3.4:5",
    b"\0to=[::1]:5",
    b"@",
    b"xn--",
    b"0.0.0.0",
    b"::ffff:1.2.3.4",
    b"3000-3003",
    b":1-4",
    b"\xc4\xb0",
    b"\xe3\x80\x82",
)


def run(data: bytes) -> None:
    """Parse `data` as both, and as a range; what is taken can be written, and is then the same."""
    with Work(at_most=20_000 + 1000 * len(data)):
        _check_target(data)
        _check_remote(data)
    # A user's few letters may be as many remotes as a request can have.
    with Work(at_most=20_000 + 1000 * len(data) + 200 * MAX_REMOTES):
        _check_range(data)


def _check_target(data: bytes) -> None:
    try:
        named, visitor = split_visitor(data)
        if visitor is not None:
            assert split_visitor(with_visitor(named, visitor)) == (named, visitor)
            proxy_header("v2", visitor)
        target = parse_target.__wrapped__(named)
    except ProtocolError as error:
        check_text(error)
        return
    _check_written(target)


def _check_written(target: Target) -> None:
    assert str(target).isprintable()
    assert parse_target.__wrapped__(str(target).encode()) == target
    again = Target.parse(target.access_address)
    assert again.access_address == target.access_address, "two forms for one place"
    if target.host:
        assert canonical_host(again.host) == canonical_host(target.host)


def _check_remote(data: bytes) -> None:
    # As the command line has it: what is no UTF-8 comes as surrogates.
    text = data.decode("utf-8", "surrogateescape")
    try:
        remote = Remote.parse(text)
    except UsageError as error:
        check_text(error)
        return
    _check_written(remote.target)
    assert str(remote).isprintable()
    assert remote.access_address.isprintable()
    assert Remote.parse(remote.encode()) == attrs.evolve(remote, socks_auth=None)
    # Logins and networks are for the listener, which is the peer's only where the remote is
    # reversed; and the client knows by itself where a PROXY header goes.
    allow = remote.options.allow if remote.reverse else ()
    sent = attrs.evolve(
        remote,
        socks_auth=remote.socks_auth if remote.reverse else None,
        options=RemoteOptions(allow=allow),
    )
    assert Config.decode(Config("1", (remote,)).encode()).remotes == (sent,)


def _check_range(data: bytes) -> None:
    """A range is the remotes of its ports; what has none is one remote."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        first, *others = parse_range(text)
    except UsageError as error:
        check_text(error)
        return
    if others:
        assert parse_range(others[-1].encode()) == (others[-1],)
        assert others[-1].local_port - first.local_port == len(others)
        assert others[-1].remote_port - first.remote_port == len(others)
