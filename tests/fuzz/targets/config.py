"""The config request of a client, and the server's reply to it."""

from __future__ import annotations

from cotun_trio.errors import ProtocolError
from cotun_trio.protocol.config import MAX_IDENTITY, MAX_REMOTES, MAX_VERSION, Config
from cotun_trio.protocol.config_reply import ConfigReply
from tests.fuzz.oracle import Work, check_text

LONGEST = 4096
WORDS = (
    b'"Version":',
    b'"Remotes":[{',
    b'"CotunTrio":{"Identity":"',
    b'"LocalHost":"',
    b'"LocalPort":"',
    b'"LocalProto":"udp"',
    b'"RemoteHost":"',
    b'"RemotePort":"',
    b'"RemoteProto":"udp"',
    b'"Socks":true',
    b'"Reverse":true',
    b'"Stdio":true',
    b'"SocksAuth":"a:b"',
    b'"Allow":["10.0.0.0/8"]',
    b'"Addresses":["',
    b"unix:/",
    b"null",
    b"NaN",
    b"1e999",
    b"\\ud800",
)


def run(data: bytes) -> None:
    """Decode `data` as both; what is taken can be sent, and is then the same."""
    with Work(at_most=5000 + 300 * len(data)):
        _check_request(data)
        _check_reply(data)


def _check_request(data: bytes) -> None:
    try:
        config = Config.decode(data)
    except ProtocolError as error:
        check_text(error)
        return
    assert len(config.remotes) <= MAX_REMOTES
    assert len(config.version) <= MAX_VERSION
    assert len(config.identity) <= MAX_IDENTITY
    assert Config.decode(config.encode()) == config
    for remote in config.remotes:
        # All that a server does with one before it listens.
        assert str(remote).isprintable()
        assert remote.access_address.isprintable()
        assert remote.local_address
        assert remote.channel_target


def _check_reply(data: bytes) -> None:
    try:
        reply = ConfigReply.decode(data)
    except ProtocolError as error:
        check_text(error)
        return
    assert len(reply.addresses) <= MAX_REMOTES
    assert all(address.isprintable() for address in reply.addresses)
    assert ConfigReply.decode(reply.encode()) == reply
