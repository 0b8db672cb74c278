"""The names of what both ends can do beyond the first version."""

from __future__ import annotations

import json

import pytest

from cotun_trio.errors import ProtocolError
from cotun_trio.protocol.config import Config
from cotun_trio.protocol.config_reply import ConfigReply
from cotun_trio.protocol.extensions import DATAGRAM_RUNS, MAX_NAMES, OURS

IDENTITY = "0123456789abcdef"


def config(**ours: object) -> bytes:
    return json.dumps({"CotunTrio": {"Identity": IDENTITY} | ours}).encode()


def reply(**fields: object) -> bytes:
    return json.dumps({"Addresses": []} | fields).encode()


def test_a_client_asks_for_them_beside_its_identity() -> None:
    asking = Config("1", (), IDENTITY, OURS)
    added = f',"CotunTrio":{{"Identity":"{IDENTITY}","Extensions":["datagram-runs","visitors"]}}}}'
    assert asking.encode() == Config("1", ()).encode()[:-1] + added.encode()
    assert Config.decode(asking.encode()) == asking


def test_a_server_says_which_ones_it_has() -> None:
    saying = ConfigReply(("a:1",), OURS)
    assert saying.encode() == b'{"Addresses":["a:1"],"Extensions":["datagram-runs","visitors"]}'
    assert ConfigReply.decode(saying.encode()) == saying


def test_without_an_identity_nothing_is_asked_for() -> None:
    assert Config("1", (), "", OURS).encode() == Config("1", ()).encode()
    nobody = json.dumps({"CotunTrio": {"Extensions": list(OURS)}}).encode()
    assert Config.decode(nobody).extensions == ()


@pytest.mark.parametrize(
    ("names", "known"),
    [
        ([], ()),
        (None, ()),
        (["later", DATAGRAM_RUNS, DATAGRAM_RUNS, "even-later"], (DATAGRAM_RUNS,)),
        (["later", "\ud800", "\x1b[2J", "x" * 9999], ()),
        (["Datagram-Runs"], ()),
        (["x"] * (MAX_NAMES - 1) + [DATAGRAM_RUNS], (DATAGRAM_RUNS,)),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_unknown_names_do_no_harm(names: list[str] | None, known: tuple[str, ...]) -> None:
    assert Config.decode(config(Extensions=names)).extensions == known
    assert ConfigReply.decode(reply(Extensions=names)).extensions == known


@pytest.mark.parametrize(
    "names",
    [*(1, True, "datagram-runs", {}), *([1], [None], [["datagram-runs"]]), ["x"] * (MAX_NAMES + 1)],
    ids=lambda value: ascii(value)[:40],
)
def test_what_is_no_short_list_of_names_is_a_protocol_error(names: object) -> None:
    with pytest.raises(ProtocolError, match=r"^config request: ") as request_error:
        Config.decode(config(Extensions=names))
    with pytest.raises(ProtocolError, match=r"^config reply: ") as reply_error:
        ConfigReply.decode(reply(Extensions=names))
    assert f"{request_error.value}{reply_error.value}".isprintable()


def test_old_ends_say_nothing_about_them() -> None:
    assert Config.decode(config()).extensions == ()
    assert ConfigReply.decode(reply()).extensions == ()
