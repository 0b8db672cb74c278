"""How a channel ends: each direction by itself, and a number that is free when both have closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cotun_trio.errors import ConnectionLost, ProtocolError
from cotun_trio.ssh import messages
from cotun_trio.ssh.scratch import MAX_PACKET
from cotun_trio.ssh.window import WINDOW
from tests.support.ssh import channel_data
from tests.support.ssh_connection import Dialogue, RecordingSink, send

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.ssh.channel import Channel

PEER = 7
EOF = messages.about_channel(messages.CHANNEL_EOF, 0)
CLOSE = messages.about_channel(messages.CHANNEL_CLOSE, 0)
OUR_EOF = messages.about_channel(messages.CHANNEL_EOF, PEER)
OUR_CLOSE = messages.about_channel(messages.CHANNEL_CLOSE, PEER)


def accepted(room: int = 2**62) -> tuple[Dialogue, Channel, RecordingSink]:
    dialogue = Dialogue()
    channel = dialogue.accept(number=PEER)
    sink = RecordingSink(room)
    channel.attach(sink)
    return dialogue, channel, sink


# ---- the peer's end


def test_after_the_peers_eof_we_can_still_send() -> None:
    dialogue, channel, sink = accepted()
    dialogue.say(channel_data(0, b"request"), EOF)
    assert (sink.data, sink.told) == (b"request", ["end"])
    assert channel.sendable
    assert send(channel, b"answer") == 6
    channel.send_eof()
    assert dialogue.heard() == [channel_data(PEER, b"answer"), OUR_EOF]
    assert dialogue.connection.channels == {0: channel}


def test_after_our_eof_the_peer_can_still_send() -> None:
    dialogue, channel, sink = accepted()
    channel.send_eof()
    dialogue.say(channel_data(0, b"still here"))
    assert (sink.data, sink.told) == (b"still here", [])
    dialogue.say(EOF)
    assert sink.told == ["end"]
    assert dialogue.heard() == [OUR_EOF]


@pytest.mark.parametrize("together", [True, False])
def test_the_end_is_told_after_the_last_byte(together: bool) -> None:
    dialogue, _, sink = accepted()
    order: list[str] = []
    sink.write = lambda views: order.append("data") or sum(map(len, views))  # type: ignore[assignment]
    sink.end = lambda: order.append("end")  # type: ignore[method-assign]
    if together:
        dialogue.say(channel_data(0, b"a"), channel_data(0, b"b"), EOF)
        assert order == ["data", "end"]
    else:
        dialogue.say(channel_data(0, b"a"))
        dialogue.say(channel_data(0, b"b"))
        dialogue.say(EOF)
        assert order == ["data", "data", "end"]


def test_a_second_eof_changes_nothing() -> None:
    dialogue, _, sink = accepted()
    dialogue.say(EOF, EOF)
    dialogue.say(EOF)
    assert sink.told == ["end"]


@pytest.mark.parametrize("size", [0, 1])
def test_data_after_the_peers_eof_is_refused(size: int) -> None:
    dialogue, _, _ = accepted()
    dialogue.say(EOF)
    with pytest.raises(ProtocolError, match="after EOF"):
        dialogue.say(channel_data(0, bytes(size)))


def test_data_of_a_second_stream_after_the_peers_eof_is_refused() -> None:
    dialogue, _, _ = accepted()
    dialogue.say(EOF)
    with pytest.raises(ProtocolError):
        dialogue.say(b"\x5f" + bytes(4) + b"\0\0\0\x01" + messages.string(b"x"))


def test_no_credit_is_given_after_the_peers_eof() -> None:
    dialogue, channel, sink = accepted(room=0)
    for _ in range(WINDOW // MAX_PACKET):
        dialogue.say(channel_data(0, bytes(MAX_PACKET)))
    dialogue.say(EOF)
    sink.room = 2**30
    assert channel.flush_backlog()
    assert dialogue.heard() == []
    assert sink.told[-1] == "end"


def test_a_close_without_an_eof_is_an_end_too() -> None:
    # Go's programs send no other.
    dialogue, channel, sink = accepted()
    dialogue.say(channel_data(0, b"last words"), CLOSE)
    assert sink.data == b"last words"
    assert sink.told == ["end", "closed"]
    assert not channel.sendable
    assert dialogue.heard() == [OUR_CLOSE]


def test_after_the_peers_close_a_backlog_is_still_to_be_had() -> None:
    dialogue, channel, sink = accepted(room=2)
    dialogue.say(channel_data(0, b"abcdef"), CLOSE)
    assert sink.told == ["waits", "closed"]
    sink.room = 100
    assert channel.flush_backlog()
    assert sink.data == b"abcdef"
    assert sink.told == ["waits", "closed", "end"]
    assert dialogue.heard() == [OUR_CLOSE]


# ---- our end


def test_eof_is_sent_once() -> None:
    dialogue, channel, _ = accepted()
    channel.send_eof()
    channel.send_eof()
    assert dialogue.heard() == [OUR_EOF]


def test_close_is_sent_once() -> None:
    dialogue, channel, _ = accepted()
    channel.close()
    channel.close()
    dialogue.say(CLOSE)
    channel.close()
    assert dialogue.heard() == [OUR_CLOSE]


def test_closing_drops_what_was_not_taken_and_what_still_comes() -> None:
    dialogue, channel, sink = accepted(room=1)
    dialogue.say(channel_data(0, b"abc"))
    channel.close()
    assert len(channel._backlog) == 0
    sink.room = 100
    dialogue.say(channel_data(0, b"def"))
    assert channel.flush_backlog()
    assert sink.data == b"a"
    assert len(channel._backlog) == 0


def test_closing_in_the_middle_of_a_delivery_is_fine() -> None:
    dialogue, channel, sink = accepted(room=0)
    dialogue.say(channel_data(0, b"abc"))

    def write(views: list[memoryview]) -> int:
        channel.close()
        return sum(map(len, views))

    sink.write = write  # type: ignore[method-assign, assignment]
    assert channel.flush_backlog()
    assert len(channel._backlog) == 0
    assert dialogue.heard() == [OUR_CLOSE]


def send_data(channel: Channel, sink: RecordingSink) -> None:
    assert not channel.sendable


def send_eof(channel: Channel, sink: RecordingSink) -> None:
    channel.send_eof()


def take_backlog(channel: Channel, sink: RecordingSink) -> None:
    sink.room = 2**30
    channel.flush_backlog()
    channel.take(2**30)


@pytest.mark.parametrize("action", [send_data, send_eof, take_backlog])
@pytest.mark.parametrize("closer", ["we", "the peer"])
def test_after_our_close_nothing_more_is_sent_for_the_channel(
    closer: str, action: Callable[[Channel, RecordingSink], None]
) -> None:
    # Go drops the whole connection: "ssh: invalid channel N". Window adjusts included.
    dialogue, channel, sink = accepted(room=0)
    for _ in range(WINDOW // MAX_PACKET):
        dialogue.say(channel_data(0, bytes(MAX_PACKET)))
    if closer == "we":
        channel.close()
    else:
        dialogue.say(CLOSE)
    assert dialogue.heard() == [OUR_CLOSE]
    action(channel, sink)
    assert dialogue.heard() == []


def test_what_a_peer_sends_before_it_knows_of_our_close_is_taken_without_an_answer() -> None:
    dialogue, channel, sink = accepted()
    channel.close()
    dialogue.heard()
    for _ in range(WINDOW // MAX_PACKET):
        dialogue.say(channel_data(0, bytes(MAX_PACKET)))
    with pytest.raises(ProtocolError, match="beyond the window"):
        dialogue.say(channel_data(0, b"x"))
    assert [payload[0] for payload in dialogue.heard()] == [messages.DISCONNECT]
    assert sink.data == b""


def test_adjustments_requests_and_eof_that_cross_our_close_are_harmless() -> None:
    dialogue, channel, _ = accepted()
    channel.close()
    request = b"\x62" + bytes(4) + messages.string(b"shell") + b"\x01"
    extended = b"\x5f" + bytes(4) + b"\0\0\0\x01" + messages.string(bytes(30_000))
    dialogue.say(messages.window_adjust(0, 100), request, *[extended] * 20, EOF, CLOSE)
    assert dialogue.heard() == [OUR_CLOSE]
    assert dialogue.connection.channels == {}


def test_a_number_is_free_only_when_both_have_closed() -> None:
    dialogue, channel, _ = accepted()
    dialogue.connection._table._next_number = 0
    channel.close()
    assert dialogue.connection.channels == {0: channel}
    assert dialogue.accept(number=8).number == 1
    dialogue.say(CLOSE)
    dialogue.connection._table._next_number = 0
    again = dialogue.accept(number=9)
    assert again.number == 0
    dialogue.say(channel_data(0, b"to the new one"))
    sink = RecordingSink()
    again.attach(sink)
    assert sink.data == b"to the new one"


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(channel_data(0, b"x"), id="data"),
        pytest.param(
            b"\x5f" + bytes(4) + b"\0\0\0\x01" + messages.string(b"x"), id="extended-data"
        ),
        pytest.param(messages.window_adjust(0, 1), id="window-adjust"),
        pytest.param(EOF, id="eof"),
        pytest.param(CLOSE, id="close"),
        pytest.param(b"\x62" + bytes(4) + messages.string(b"shell") + b"\0", id="request"),
    ],
)
def test_a_message_for_a_channel_that_has_closed_or_never_was_is_refused(payload: bytes) -> None:
    dialogue = Dialogue()
    with pytest.raises(ProtocolError, match="channel 0, which is not open"):
        dialogue.say(payload)
    dialogue, channel, _ = accepted()
    channel.close()
    dialogue.say(CLOSE)
    with pytest.raises(ProtocolError, match="channel 0, which is not open"):
        dialogue.say(payload)


# ---- the connection's end


def test_a_lost_connection_closes_the_channel_without_an_end() -> None:
    # Nobody may take half a file for a whole one.
    dialogue, channel, sink = accepted(room=1)
    dialogue.say(channel_data(0, b"ab"))
    dialogue.heard()
    dialogue.connection.on_lost(ConnectionLost("cut"))
    assert sink.told == ["waits", "closed"]
    assert channel.lost
    sink.room = 10
    assert channel.flush_backlog()
    assert sink.data == b"ab"
    assert "end" not in sink.told
    channel.send_eof()
    channel.close()
    assert dialogue.carrier.kernel == b""


def test_a_channel_that_had_closed_is_not_lost() -> None:
    dialogue, channel, sink = accepted()
    dialogue.say(CLOSE)
    dialogue.connection.on_lost(ConnectionLost("cut"))
    assert not channel.lost
    assert sink.told == ["end", "closed"]
