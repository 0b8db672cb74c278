"""Two engines get from nothing to a login, however they are fed, or find out why not."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

import pytest

from cotun_trio.errors import CotunError, ProtocolError
from cotun_trio.ssh.engine import (
    MAX_VERSION_LINE,
    KeysAgreed,
    LoggedIn,
    LoginRequested,
)
from cotun_trio.ssh.scratch import READ
from tests.support.ssh import (
    CIPHERS,
    CLIENT_VERSION,
    HOST_KEYS,
    KEX_METHODS,
    PASSWORD,
    SERVER_VERSION,
    USER,
    EnginePair,
    feed,
    host_key,
    lists_of,
    make_engine,
    split_plain,
    take_out,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.ssh import Side

    Tamper = Callable[[Side, int, bytes], bytes]


def check_login(pair: EnginePair, key: str = "ecdsa") -> None:
    """Check that both sides of `pair` saw a login, and nothing else."""
    assert pair.events["client"] == [KeysAgreed(host_key(key).asbytes()), LoggedIn()]
    assert pair.events["server"] == [KeysAgreed(b""), LoginRequested(USER, PASSWORD)]
    assert pair.client.authenticated
    assert pair.server.authenticated
    assert pair.client.may_send
    assert pair.server.may_send
    assert pair.client.user == pair.server.user == USER


@pytest.mark.parametrize("step", [READ, 1], ids=["whole", "byte-by-byte"])
@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("kex", KEX_METHODS)
def test_every_method_and_cipher_leads_to_a_login(kex: str, cipher: str, step: int) -> None:
    client = make_engine("client", kex=[kex], ciphers=[cipher])
    pair = EnginePair(client, step=step).run()
    check_login(pair)
    assert pair.server._transport.local_cipher == cipher
    assert pair.server._transport.remote_cipher == cipher


@pytest.mark.parametrize("step", [READ, 1], ids=["whole", "byte-by-byte"])
@pytest.mark.parametrize("key", HOST_KEYS)
def test_every_kind_of_host_key_is_proven(key: str, step: int) -> None:
    server = make_engine("server", key=host_key(key))
    check_login(EnginePair(server=server, step=step).run(), key)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100, 1000])
def test_the_pieces_in_which_bytes_arrive_change_nothing(step: int) -> None:
    check_login(EnginePair(step=step).run())


def test_the_strongest_of_what_both_know_is_chosen() -> None:
    pair = EnginePair().run()
    assert lists_of(pair.heard["server"][0])[0].decode().split(",")[:3] == list(KEX_METHODS)
    assert pair.client._transport.local_cipher == CIPHERS[0]
    # The client's public value is that of the hybrid method: ML-KEM-768 and X25519.
    assert len(pair.heard["server"][1]) == 1 + 4 + 1184 + 32


def test_nothing_but_what_we_mean_to_speak_is_offered() -> None:
    for side in ("client", "server"):
        line, payloads = split_plain(take_out(make_engine(side)))
        assert line == {"client": CLIENT_VERSION, "server": SERVER_VERSION}[side].encode() + b"\r\n"
        (kex_init,) = payloads
        offered = [entry.decode().split(",") for entry in lists_of(kex_init)]
        marks = {f"kex-strict-{side[0]}-v00@openssh.com", "ext-info-c"}
        assert [name for name in offered[0] if name not in marks] == list(KEX_METHODS)
        assert f"kex-strict-{side[0]}-v00@openssh.com" in offered[0]
        assert offered[2] == offered[3] == list(CIPHERS)
        assert offered[6] == offered[7] == ["none"]
        assert not any("sha1" in name or name == "ssh-rsa" for name in itertools.chain(*offered))


def test_version_and_key_offer_leave_in_one_piece_before_anything_arrives() -> None:
    # One round trip less: RFC 4253 section 7.1 lets both sides send KEXINIT at once.
    line, payloads = split_plain(take_out(make_engine("client")))
    assert line == b"SSH-chisel-v3-client\r\n"
    assert len(payloads) == 1


def test_a_server_of_several_connections_gives_each_its_own_keys() -> None:
    seen = set()
    for _ in range(4):
        pair = EnginePair().run()
        seen.add(pair.client._transport.session_id)
    assert len(seen) == 4


# ---- the version line (RFC 4253 section 4.2)


def read_version(data: bytes, step: int = READ) -> str:
    engine = make_engine("server")
    feed(engine, data, step)
    return engine.peer_version


@pytest.mark.parametrize("step", [READ, 1])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_version_line_may_end_in_either_way(end: bytes, step: int) -> None:
    assert read_version(b"SSH-chisel-v3-client" + end, step) == "SSH-chisel-v3-client"


@pytest.mark.parametrize("step", [READ, 1])
def test_a_version_line_of_255_bytes_is_taken_and_one_of_256_is_not(step: int) -> None:
    longest = b"SSH-" + b"x" * (MAX_VERSION_LINE - 6)
    assert len(longest + b"\r\n") == MAX_VERSION_LINE == 255
    assert read_version(longest + b"\r\n", step) == longest.decode()
    with pytest.raises(ProtocolError, match="255 bytes"):
        read_version(longest + b"x\r\n", step)


@pytest.mark.parametrize("step", [READ, 1, 100])
def test_an_endless_version_line_is_refused_at_its_255th_byte(step: int) -> None:
    engine = make_engine("server")
    feed(engine, b"SSH-" + b"x" * 250, step)
    assert not engine.peer_version
    with pytest.raises(ProtocolError, match="255 bytes"):
        feed(engine, b"x", step)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"ssh-chisel-v3-client",
        b" SSH-chisel-v3-client",
        b"SSH",
        b"HTTP/1.1 200 OK",
        b"SSH-chisel\0-v3",
        b"SSH-ch\xc3\xadsel",
        b"SSH-\xff",
        b"welcome\r\nSSH-chisel-v3-client",
    ],
)
@pytest.mark.parametrize("step", [READ, 1])
def test_a_first_line_that_is_no_version_is_refused(line: bytes, step: int) -> None:
    with pytest.raises(ProtocolError, match="not an SSH version line"):
        read_version(line + b"\r\n", step)


def test_what_is_quoted_of_a_wrong_version_line_is_harmless() -> None:
    with pytest.raises(ProtocolError) as caught:
        read_version(b"\x1b[31mred\rblack\n")
    assert r"\x1b[31mred\rblack" in str(caught.value)
    assert str(caught.value).isprintable()


def test_what_follows_the_version_line_in_the_same_read_is_not_lost() -> None:
    pair = EnginePair()
    greeting = take_out(pair.client)
    for cut in range(len(greeting)):
        server = make_engine("server")
        feed(server, greeting[:cut])
        feed(server, greeting[cut:])
        assert server.peer_version == CLIENT_VERSION
        assert server.packetizer.sequence_in == 1


# ---- tampering


def plain_padding(stream: bytes) -> set[int]:
    """Return the offsets of the padding of the packets that a stream begins with, in the plain."""
    at = stream.index(b"\n") + 1
    found: set[int] = set()
    while True:
        length, padding, kind = (
            int.from_bytes(stream[at : at + 4], "big"),
            stream[at + 4],
            stream[at + 5],
        )
        end = at + 4 + length
        found |= set(range(end - padding, end))
        at = end
        if kind == 21:
            return found


@pytest.mark.slow
@pytest.mark.parametrize("kex", ["mlkem768x25519-sha256", "curve25519-sha256"])
@pytest.mark.parametrize("victim", ["client", "server"])
def test_one_flipped_bit_in_a_handshake_ends_or_stops_it(victim: Side, kex: str) -> None:
    def make_pair(tamper: Tamper | None = None) -> EnginePair:
        # Ed25519 signatures are all of one length, so that every handshake has the same layout.
        server = make_engine("server", key=host_key("ed25519"))
        return EnginePair(make_engine("client", kex=[kex]), server, tamper=tamper)

    model = make_pair().run()
    harmless = plain_padding(bytes(model.sent[victim]))
    size = len(model.sent[victim])
    reached = 0
    bits = itertools.cycle(range(8))
    for position in sorted({*range(0, size, 7), *harmless}):
        mask = 1 << next(bits)

        def flip(side: Side, offset: int, data: bytes) -> bytes:
            at = position - offset  # noqa: B023
            if side != victim or not 0 <= at < len(data):
                return data
            return data[:at] + bytes((data[at] ^ mask,)) + data[at + 1 :]  # noqa: B023

        pair = make_pair(flip)
        with contextlib.suppress(CotunError):
            pair.run()
        done = pair.client.authenticated and pair.server.authenticated
        assert done == (position in harmless), (position, pair.events)
        if done:
            reached += 1
            check_login(pair, "ed25519")
        else:
            # What little was reached before is the truth.
            for side, events in pair.events.items():
                assert events == model.events[side][: len(events)]
    assert reached == len(harmless) > 10
