"""The messages between a supervisor and its workers."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.counts import Meters
from cotun_trio.errors import ProtocolError
from cotun_trio.server.reverse_listeners import Yielded
from cotun_trio.snapshot import Figures
from cotun_trio.workers import control
from cotun_trio.workers.account import Account
from cotun_trio.workers.control import HEAD, MAX_BODY, Decoder, encode
from cotun_trio.workers.values import pack

FIGURES = Figures(sessions=1, ended=2, channels=3, bytes_out=4, bytes_in=5, tasks=6, memory=8)
METERS = Meters()
METERS.logins.add("accepted")
METERS.pings.add(0.25)
ACCOUNT = pack(Account(FIGURES, METERS))
CONVERSATION: list[tuple[control.Message, int]] = [
    (control.Begin(b"\x00anything\xff"), 0),
    (control.Drain(), 0),
    (control.Reload(), 1),
    (control.LogTasks(), 0),
    (control.Look("kick", ("2", "go ü")), 2),
    (control.Ping(), 2**32 - 1),
    (control.Barred("10.0.0.1", 60.0), 0),
    (control.Lifted("10.0.0.1"), 0),
    (control.Lifted(None), 0),
    (control.LogLevel("debug"), 0),
    (control.Ready(), 0),
    (control.CannotServe("no \n such file ü"), 0),
    (control.Leaving(), 0),
    (control.Sessions(3), 0),
    (control.LoginFailed("10.0.0.1"), 7),
    (control.Farewell(Account(FIGURES, METERS)), 0),
    (control.Happened(1.5, "closed", {"peer": "10.0.0.1:1"}), 0),
    (control.Claim("127.0.0.1", 80, "", False, "ab" * 16, "alice"), 8),
    (control.Claim("", 0, "/run/x", True, "", None), 9),
    (control.Done(), 1),
    (control.Seen(([1, ["a"], None], True), True), 2),
    (control.Seen((), False), 2),
    (control.Penalty(0.1, 0.0), 7),
    *((control.Yield(outcome), 8) for outcome in Yielded),
]
BYTES = b"".join(encode(message, number) for message, number in CONVERSATION)


def test_all_that_is_said_is_understood() -> None:
    assert {type(message) for message, _ in CONVERSATION} == set(control._KINDS)
    assert Decoder().feed(BYTES) == CONVERSATION


def test_messages_are_read_byte_by_byte() -> None:
    decoder = Decoder()
    heard = [pair for byte in BYTES for pair in decoder.feed(bytes([byte]))]
    assert heard == CONVERSATION


@given(st.lists(st.integers(0, len(BYTES))))
def test_messages_are_read_however_they_are_cut(cuts: list[int]) -> None:
    decoder, ends = Decoder(), [0, *sorted(cuts), len(BYTES)]
    heard = [
        pair for begin, end in itertools.pairwise(ends) for pair in decoder.feed(BYTES[begin:end])
    ]
    assert heard == CONVERSATION


def said(kind: type[control.Message], *fields: object) -> bytes:
    """Return a message with fields that it may not be able to have."""
    body = json.dumps(fields).encode()
    return HEAD.pack(len(body), control._KINDS.index(kind), 0) + body


@pytest.mark.parametrize(
    "data",
    [
        said(control.Sessions),
        said(control.Sessions, 1, 2),
        said(control.Sessions, "1"),
        said(control.Sessions, True),
        said(control.Sessions, 1.5),
        said(control.LoginFailed, None),
        said(control.Barred, "x", 1),
        said(control.Barred, "x", float("nan")),  # JSON for Python alone
        said(control.Barred, "x", float("-inf")),
        HEAD.pack(12, control._KINDS.index(control.Penalty), 0) + b"[1e999, 0.0]",
        said(control.Seen, 5, True),
        said(control.Seen, [1, 2]),
        said(control.LogLevel, "loud"),
        said(control.LogLevel, ["debug"]),
        said(control.Look, "kick", ["2", 3]),
        said(control.Farewell, [ACCOUNT[0], []]),
        said(control.Farewell, [ACCOUNT[0][:-1], ACCOUNT[1]]),
        said(control.Farewell, [ACCOUNT[0], ACCOUNT[1] | {"pings": [0.0]}]),
        said(control.Farewell, [ACCOUNT[0], ACCOUNT[1] | {"logins": [1, 2, -3]}]),
        said(control.Farewell, [ACCOUNT[0], ACCOUNT[1] | {"logins": [1, 2, 0.5]}]),
        said(control.Happened, 1.5, "closed", {"peer": 5}),
        said(control.Happened, 1.5, "closed", {"peer": "x" * 301}),
        said(control.Happened, 1.5, "closed", {"x" * 41: "x"}),
        said(control.Happened, 1.5, "closed", {str(number): "x" for number in range(33)}),
        said(control.Happened, 1.5, "x" * 41, {}),
        said(control.Yield, "perhaps"),
        said(control.Yield, []),
        said(control.Claim, "h", 80, "", False, "", 5),
        HEAD.pack(0, control._KINDS.index(control.Drain), 0),
        HEAD.pack(1, control._KINDS.index(control.Drain), 0) + b"{",
        HEAD.pack(2, control._KINDS.index(control.Drain), 0) + b"{}",
        HEAD.pack(2, control._KINDS.index(control.Drain), 0) + b"\xff\xfe",
        HEAD.pack(40_000, control._KINDS.index(control.Drain), 0) + b"[" * 40_000,
        HEAD.pack(0, len(control._KINDS), 0),
        HEAD.pack(MAX_BODY + 1, 0, 0),
    ],
)
def test_malformed_bytes_are_an_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Decoder().feed(data)


@given(st.binary())
def test_noise_is_an_error_or_nothing(data: bytes) -> None:
    try:
        heard = Decoder().feed(data)
    except ProtocolError:
        return
    assert heard == []


def test_the_content_of_the_first_message_is_not_shown() -> None:
    assert "secret" not in repr(control.Begin(b"secret"))
