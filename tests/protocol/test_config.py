"""The config request, held against the bytes that Go sends and what Go accepts.

`tests/vectors/config.json` has the recordings.  Each row is either as in Go or in one of the tables
below.  Why a remote is read as it is, `test_remote.DEVIATIONS` says.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.errors import ProtocolError, UsageError
from cotun_trio.protocol.bounded_json import MAX_DEPTH
from cotun_trio.protocol.config import MAX_REMOTES, MAX_VERSION, Config
from cotun_trio.protocol.remote import Remote

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/config.json").read_text())
PAYLOADS: list[tuple[str, list[str], bytes]] = [
    (row["version"], row["remotes"] or [], row["payload"].encode()) for row in VECTORS["payloads"]
]

WRITTEN_OTHERWISE = {
    "03000": "we send 3000",
    "000080": "we send 80",
    "3000/TCP": "we send tcp in lower case",
    "3000/UDP": "we send udp in lower case",
    "Example.COM:3000/TCP": "we send tcp in lower case",
    "[fe80::1%25eth0]:80": "we send [fe80::1%eth0]",
}
"""Remotes that both take, but that we put differently."""

REFUSED = None
ONLY_GO_SENDS: dict[str, str | None] = {
    "3000:": "3000",
    "::3000": "3000",
    "3000:::80": "3000:80",
    "::1:80": "1:80",
    "R:::1:2222:localhost:22": "R:1:localhost:22",
    "3000:4000:5000": "3000:5000",
    "5000:6000:foo:80": "5000:foo:80",
    "1:2:3:4": "1:4",
    "foo:bar:baz:80": "foo:80:baz:80",
    "a:b:socks": "a:socks",
    "stdio:3000:foo:80": "stdio:foo:80",
    "127.0.0.1/udp:3000:example.com:53/udp": "127.0.0.1:3000:example.com:53/udp",
    "[]:3000": "3000",
    "[:3000": "3000",
    "]:3000": "3000",
    "a]:3000": "a:3000",
    "[::1:3000": "1:3000",
    "[::1]x:3000": "[::1]:3000:x:3000",
    "socks:3000": "3000:socks:3000",
    "r:3000": "3000:r:3000",
    "R:R:3000": "R:0.0.0.0:3000:R:3000",
    "+3000": REFUSED,
    "stdio": REFUSED,
    "stdio:1.1.1.1:53/udp": REFUSED,
    "3000:user@host:80": REFUSED,
    "3000:a#b:80": REFUSED,
    "3000:a?b:80": REFUSED,
    "3000:/path:80": REFUSED,
    "3000:<a&b>:80": REFUSED,
}
"""Remotes that we refuse from our user, and what we make of them when a Go client sends them."""

REFUSED_ALTHOUGH_GO_DECODES = {
    '{"version":"1","remotes":[{"localhost":"127.0.0.1","localport":"1"}]}': "no remote port",
    '{"Version":"1","Remotes":[{}]}': "no remote port",
    '{"Version":"1","Remotes":[{"LocalHost":null}]}': "no remote port",
    '{"Version":"1","Remotes":[null]}': "no remote at all: a Go server dies of it",
}


def remotes(*texts: str) -> tuple[Remote, ...]:
    return tuple(Remote.parse(text) for text in texts)


def one(**fields: object) -> bytes:
    """Return a config request with one remote of the given fields."""
    return json.dumps({"Version": "1", "Remotes": [fields]}).encode()


# What Go sends


@pytest.mark.parametrize(
    ("version", "texts", "payload"), PAYLOADS, ids=lambda value: ascii(value)[:60]
)
def test_a_payload_has_the_bytes_that_go_sends(
    version: str, texts: list[str], payload: bytes
) -> None:
    if texts and texts[0] in ONLY_GO_SENDS:
        with pytest.raises(UsageError):
            remotes(*texts)
        return
    same = Config(version, remotes(*texts)).encode() == payload
    assert same != bool(texts and texts[0] in WRITTEN_OTHERWISE)


@pytest.mark.parametrize(
    ("version", "texts", "payload"), PAYLOADS, ids=lambda value: ascii(value)[:60]
)
def test_what_go_sends_is_understood(version: str, texts: list[str], payload: bytes) -> None:
    understood = [ONLY_GO_SENDS.get(text, text) for text in texts]
    if REFUSED in understood:
        with pytest.raises(ProtocolError):
            Config.decode(payload)
    else:
        expected = remotes(*(text for text in understood if text is not None))
        assert Config.decode(payload) == Config(version, expected)


def test_strings_are_escaped_as_go_escapes_them() -> None:
    version = '<&>"\\/ü€😀\b\f\n\r\t\x01\x1f\x7f\u2028\u2029'
    assert Config(version, ()).encode() == (
        rb'{"Version":"\u003c\u0026\u003e\"\\/' + "ü€😀".encode() + rb"\b\f\n\r\t\u0001\u001f"
        b"\x7f" + rb'\u2028\u2029","Remotes":null}'
    )


# What Go accepts


@pytest.mark.parametrize("row", VECTORS["decode"], ids=lambda row: row["payload"])
def test_is_as_lenient_and_as_strict_as_go(row: dict[str, Any]) -> None:
    payload = row["payload"].encode()
    if "error" in row or row["payload"] in REFUSED_ALTHOUGH_GO_DECODES:
        assert ("error" in row) != (row["payload"] in REFUSED_ALTHOUGH_GO_DECODES)
        with pytest.raises(ProtocolError):
            Config.decode(payload)
        return
    go = row["reencoded"]
    config = Config.decode(payload)
    assert config.version == go["Version"]
    assert [str(remote.remote_port) for remote in config.remotes] == [
        remote["RemotePort"] for remote in go["Remotes"] or []
    ]


@pytest.mark.parametrize(
    ("payload", "version"),
    [
        (b'{"VERSION":"a"}', "a"),
        (b'{"vErSiOn":"a"}', "a"),
        (b'{"Ver\xc5\xbfion":"a"}', "a"),  # a long s, which Go's folding takes too
        (b'{"Version":"a","version":"b"}', "b"),
        (b'{"version":"a","Version":"b","other":"c"}', "b"),
        (b'{"Version":"a","Version":null}', "a"),
        (b'{"Ver\\u0073ion":"a"}', "a"),
        (b' \t\r\n{ "Version" : "a" } \n', "a"),
        (b'{"Versions":"a"," Version":"b"}', ""),
    ],
)
def test_names_have_no_case_the_last_one_wins_and_null_changes_nothing(
    payload: bytes, version: str
) -> None:
    assert Config.decode(payload).version == version


@pytest.mark.parametrize(
    "payload",
    [
        *(
            b"\xef\xbb\xbf{}",
            b"{}\0",
            b"{}{}",
            b"{},",
            b"{",
            b'{"Version',
            b'{"Version":}',
            b"{'a':1}",
        ),
        *(b'{"Version":"\xff"}', b'{"Version":"\xed\xa0\x80"}', b'{"Version":"a\nb"}', b"// x\n{}"),
        *(b"true", b"1", b'[{"Version":"1"}]', b"{,}", b'{"a":1,}', b"\xff", b"nul", b'{1:"a"}'),
        *(
            b'{"x":NaN}',
            b'{"x":Infinity}',
            b'{"x":-Infinity}',
            b'{"x":01}',
            b'{"x":+1}',
            b'{"x":.5}',
        ),
        *("{}".encode("utf-16"), "{}".encode("utf-32"), b'{"Version":"\\x41"}', b'{"a":"\\u12"}'),
        *(b'{"Version":["1"]}', b'{"Version":true}', b'{"Version":{}}', b'{"Remotes":{}}'),
        *(b'{"Remotes":"3000"}', b'{"Remotes":[[]]}', b'{"Remotes":[1]}', b'{"Remotes":true}'),
    ],
    ids=ascii,
)
def test_what_is_no_config_is_a_protocol_error(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^config request: "):
        Config.decode(payload)


def test_numbers_of_any_size_in_unknown_fields_do_no_harm() -> None:
    huge = b"9" * 100_000
    assert Config.decode(b'{"a":%s,"b":-%s.5e%s}' % (huge, huge, huge)) == Config("", ())


def test_a_lone_surrogate_becomes_a_replacement_character_as_in_go() -> None:
    config = Config.decode(rb'{"Version":"a\ud800b\udc00\ud83d\ude00"}')
    assert config.version == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}😀"
    assert Config.decode(config.encode()) == config


# Limits


def nested(depth: int) -> bytes:
    """Return an object that is `depth` deep, with brackets in strings that do not count."""
    inner = b"[" * (depth - 1) + b"]" * (depth - 1)
    return rb'{"[[[[[[[[[\"{{{{{{{{{\\":' + (inner or b"0") + b"}"


def test_nesting_is_bounded() -> None:
    assert Config.decode(nested(MAX_DEPTH)) == Config("", ())
    with pytest.raises(ProtocolError, match="deep"):
        Config.decode(nested(MAX_DEPTH + 1))


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 262_144,
        b'{"a":' * 50_000,
        b'{"a":"' + b'\\"' * 100_000,
        b'"' * 100_001,
        b"\\" * 99_999,
    ],
    ids=lambda payload: ascii(payload[:10]),
)
def test_endless_openings_are_refused_in_linear_time(payload: bytes) -> None:
    # What takes quadratic time here takes minutes.
    with pytest.raises(ProtocolError):
        Config.decode(payload)


def test_the_number_of_remotes_is_bounded() -> None:
    remote = b'{"RemotePort":"1"}'
    most = b'{"Remotes":[' + b",".join([remote] * MAX_REMOTES) + b"]}"
    assert len(Config.decode(most).remotes) == MAX_REMOTES
    with pytest.raises(ProtocolError, match="more than 1024 remotes"):
        Config.decode(most[:-2] + b"," + remote + b"]}")


def test_a_version_is_cut_not_refused() -> None:
    assert Config.decode(b'{"Version":"%s"}' % (b"v" * 5000)).version == "v" * MAX_VERSION


# Remotes


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"RemotePort": "80"}, "80"),
        ({"LocalPort": "3000", "RemoteHost": "a", "RemotePort": "080"}, "3000:a:80"),
        ({"LocalHost": "[::1]", "RemoteHost": "[::2]", "RemotePort": "80"}, "[::1]:[::2]:80"),
        ({"LocalPort": "0", "RemotePort": "22", "Reverse": True}, "R:0:22"),
        ({"Socks": True}, "socks"),
        ({"Socks": True, "Reverse": True, "LocalPort": "5000"}, "R:5000:socks"),
        ({"Stdio": True, "RemotePort": "22", "LocalHost": "a", "LocalPort": "1"}, "stdio:22"),
        ({"RemotePort": "53", "LocalProto": "UDP", "RemoteProto": "udp"}, "53/udp"),
        ({"RemotePort": "53", "LocalProto": "", "RemoteProto": "Udp"}, "53/udp"),
        ({"RemotePort": "53", "LocalProto": "udp"}, "53/udp"),
        ({"RemotePort": "53", "LocalProto": "TCP"}, "53"),
        ({"remoteport": "53", "REVERSE": True, "Socks": None, "Extra": {"a": [1]}}, "R:53"),
    ],
)
def test_what_a_remote_leaves_out_has_its_default(fields: dict[str, object], text: str) -> None:
    assert Config.decode(one(**fields)).remotes == remotes(text)


def test_a_remote_of_a_later_cotun_has_neither_socks_nor_stdio() -> None:
    payload = (
        b'{"Version":"1.12","Remotes":[{"LocalHost":"0.0.0.0","LocalPort":"30001","LocalProto":"tcp",'
        b'"RemoteHost":"127.0.0.1","RemotePort":"9001","RemoteProto":"tcp","Reverse":true}]}'
    )
    assert Config.decode(payload) == Config("1.12", remotes("R:30001:127.0.0.1:9001"))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"RemoteHost": "a"},
        {"RemoteHost": "", "RemotePort": ""},
        {"RemotePort": "0"},
        {"RemotePort": "65536"},
        {"RemotePort": "80\n"},
        {"RemotePort": "8_0"},
        {"RemotePort": " 80"},
        {"RemotePort": "+80"},
        {"RemotePort": "\u0661\u0662"},
        {"RemotePort": "\uff18\uff10"},
        {"RemotePort": "9" * 5000},
        {"RemotePort": 80},
        {"RemotePort": ["80"]},
        {"RemotePort": "80", "LocalPort": "-1"},
        {"RemotePort": "80", "LocalPort": 0},
        {"RemotePort": "80", "LocalHost": "a b"},
        {"RemotePort": "80", "LocalHost": "stdio"},
        {"RemotePort": "80", "LocalHost": "\ud800"},
        {"RemotePort": "80", "RemoteHost": "a\nb"},
        {"RemotePort": "80", "RemoteHost": "a:80/udp"},
        {"RemotePort": "80", "RemoteHost": "[::1"},
        {"RemotePort": "80", "RemoteHost": True},
        {"RemotePort": "80", "LocalProto": "sctp"},
        {"RemotePort": "80", "LocalProto": "tcp", "RemoteProto": "udp"},
        {"RemotePort": "80", "LocalProto": "udp\n"},
        {"RemotePort": "80", "Reverse": "true"},
        {"RemotePort": "80", "Reverse": 1},
        {"RemotePort": "80", "Stdio": True, "Reverse": True},
        {"RemotePort": "53", "Stdio": True, "RemoteProto": "udp"},
        {"Socks": True, "RemotePort": "80"},
        {"Socks": True, "RemoteHost": "a"},
        {"Socks": True, "RemoteProto": "udp", "LocalProto": "udp"},
        {"Socks": "yes"},
    ],
    ids=lambda fields: ascii(fields)[:60],
)
def test_a_remote_that_makes_no_sense_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ProtocolError) as caught:
        Config.decode(one(**fields))
    assert str(caught.value).isprintable()


def test_a_refusal_says_which_remote() -> None:
    with pytest.raises(ProtocolError, match=r"remote 2: 'a\\nb' is not a host name or an address"):
        Config.decode(b'{"Remotes":[{"RemotePort":"1"},{"RemotePort":"1","RemoteHost":"a\\nb"}]}')


# Properties

TEXTS = [
    *("3000", "R:2222:localhost:22", "53:1.1.1.1:53/udp", "socks", "R:0:[::1]:80", "stdio:a:22"),
    *("80:unix:/a", "unix:/a:80", "R:unix:./a:unix:/b", "stdio:unix:/a", "R:a:b:c@socks"),
]
VERSIONS = st.text(st.characters(exclude_categories=["Cs"]), max_size=MAX_VERSION)
NAMES = [
    *("Version", "Remotes", "LocalHost", "LocalPort", "LocalProto", "RemoteHost", "RemotePort"),
    *("RemoteProto", "Socks", "Reverse", "Stdio", "socks", "remoteport", "x"),
    *("SocksAuth", "Identity"),
]
VALUES: st.SearchStrategy[object] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(
        ["", "80", "0", "a", "[::1]", "tcp", "udp", "UDP", "stdio", "unix:/x", "a:b"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)
    ),
    max_leaves=10,
)
CONFIGS = st.fixed_dictionaries(
    {"Remotes": st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6), max_size=3)},
    optional={"Version": VALUES, "CotunTrio": VALUES, "x": VALUES},
)


@given(VERSIONS, st.lists(st.sampled_from(TEXTS)), st.text("0123456789abcdef", max_size=64))
def test_a_config_is_read_back_from_its_payload(
    version: str, texts: list[str], identity: str
) -> None:
    config = Config(version, remotes(*texts), identity)
    assert Config.decode(config.encode()) == config


PAYLOADS_TO_TRY = st.one_of(
    st.binary(),
    st.text('{}[]":,\\ 0NaN').map(str.encode),
    (VALUES | CONFIGS).map(json.dumps).map(str.encode),
)


@pytest.mark.slow
@given(PAYLOADS_TO_TRY)
def test_any_payload_is_a_config_or_a_protocol_error_on_one_line(payload: bytes) -> None:
    try:
        config = Config.decode(payload)
    except ProtocolError as error:
        shown = str(error)
    else:
        shown = " ".join(map(str, config.remotes))
        assert Config.decode(config.encode()) == config
    assert shown.isprintable()
