"""Remotes and targets, held against what Go makes of the same text.

`tests/vectors` has the recordings.  Where ours differs from Go it is in `DEVIATIONS`, with the
reason, or is one of these, which no recording shows:

* A SOCKS remote is ``socks`` to an access list, as in chisel 1.11.7 and later (1.11.5 said ``:``).
* ``127.0.0.1:3000:80`` is refused.  In Go it listens on port 3000 of all interfaces.
* ``0:example.com:80`` listens on any free port.  Go has no local port 0.
* Numbers that inet_aton takes for an address are refused: ``127.1``, ``2130706433``, ``0x7f.1``.
"""

import json
import re
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.errors import ProtocolError, UsageError
from cotun_trio.protocol import remote as remote_module
from cotun_trio.protocol.addresses import (
    RemoteError,
    clean_host,
    join_host_port,
    parse_port,
)
from cotun_trio.protocol.remote import Remote
from cotun_trio.protocol.target import Target, parse_target

VECTORS = Path(__file__).parents[1] / "vectors"
ROWS: list[dict[str, Any]] = json.loads((VECTORS / "remotes.json").read_text())["rows"]
PAYLOADS = json.loads((VECTORS / "config.json").read_text())["payloads"]

GO: dict[str, dict[str, Any] | None] = {
    **{row["input"]: row.get("json") for row in ROWS},
    **{
        payload["remotes"][0]: json.loads(payload["payload"])["Remotes"][0]
        for payload in PAYLOADS
        if payload["remotes"]
    },
}
"""What Go makes of each text, as its JSON; None where it refuses."""

REFUSED = None
DEVIATIONS: dict[str, tuple[str | None, str]] = {
    # Numbers
    "+3000": (REFUSED, "Go's Atoi takes signs; a port is digits"),
    "03000": ("3000", "Go passes the zero on; a port is a number"),
    "000080": ("80", "the same"),
    # Protocols
    "3000/TCP": ("3000/tcp", "Go keeps the case, and then knows no protocol of that name"),
    "3000/UDP": ("3000/udp", "the same"),
    "Example.COM:3000/TCP": ("Example.COM:3000", "the same; the host's own case is kept"),
    "127.0.0.1/udp:3000:example.com:53/udp": (REFUSED, "a protocol belongs to a port"),
    "stdio:1.1.1.1:53/udp": (REFUSED, "Go silently opens a TCP connection"),
    # Parts that Go drops without a word
    "3000:4000:5000": (REFUSED, "Go drops the 4000"),
    "5000:6000:foo:80": (REFUSED, "Go drops the 6000"),
    "1:2:3:4": (REFUSED, "Go drops 2 and 3"),
    "foo:bar:baz:80": (REFUSED, "Go drops bar"),
    "a:b:socks": (REFUSED, "Go drops b"),
    "stdio:3000:foo:80": (REFUSED, "stdio has no port; Go drops the 3000"),
    "stdio": (REFUSED, "there is no target; Go connects to 127.0.0.1 and no port"),
    # Words that look like another remote
    "socks:3000": (REFUSED, "meant is 3000:socks; Go connects to port 3000 of a host socks"),
    "r:3000": (REFUSED, "meant is R:3000; Go connects to a host r"),
    "R:R:3000": (REFUSED, "meant is R:3000; Go connects to a host R"),
    # Colons
    "3000:": (REFUSED, "the port that a colon promises is missing"),
    "::3000": (REFUSED, "an IPv6 address without brackets, or too many colons"),
    "3000:::80": (REFUSED, "the same"),
    "::1:80": (REFUSED, "the same; Go forwards port 1 to port 80"),
    "R:::1:2222:localhost:22": (REFUSED, "the same; Go listens on port 1, of all interfaces"),
    # Brackets
    "[]:3000": (REFUSED, "brackets hold an IPv6 address; Go drops stray ones"),
    "[:3000": (REFUSED, "the same"),
    "]:3000": (REFUSED, "the same"),
    "a]:3000": (REFUSED, "the same"),
    "[::1:3000": (REFUSED, "the same; Go forwards port 1 to port 3000"),
    "[::1]x:3000": (REFUSED, "the same; Go forwards from ::1 to the host x"),
    "[fe80::1%eth0]:80": (
        "80:[fe80::1%eth0]:80",
        "the usual way to write a zone; Go wants a URL's",
    ),
    "[fe80::1%25eth0]:80": ("[fe80::1%eth0]:80", "Go takes it, and then dials the zone 25eth0"),
    # Hosts
    "3000:user@host:80": (REFUSED, "not a host; Go takes what its URL parser takes"),
    "3000:a#b:80": (REFUSED, "the same"),
    "3000:a?b:80": (REFUSED, "the same"),
    "3000:/path:80": (REFUSED, "the same"),
    "3000:<a&b>:80": (REFUSED, "the same"),
}


def as_go(remote: Remote) -> dict[str, Any]:
    """Return `remote` as the fields of Go's struct."""

    def bracketed(host: str) -> str:
        return f"[{host}]" if ":" in host else host

    protocol = "udp" if remote.udp else "tcp"
    return {
        "LocalHost": bracketed(remote.local_host),
        "LocalPort": str(remote.local_port),
        "LocalProto": protocol,
        "RemoteHost": bracketed(remote.remote_host),
        "RemotePort": str(remote.remote_port) if remote.remote_port else "",
        "RemoteProto": protocol,
        "Socks": remote.socks,
        "Reverse": remote.reverse,
        "Stdio": remote.stdio,
    }


def parsed(text: str) -> dict[str, Any] | None:
    try:
        return as_go(Remote.parse(text))
    except UsageError:
        return None


@pytest.mark.parametrize("text", [text for text in GO if text not in DEVIATIONS], ids=ascii)
def test_is_read_as_go_reads_it(text: str) -> None:
    assert parsed(text) == GO[text]


@pytest.mark.parametrize("text", DEVIATIONS, ids=ascii)
def test_deviates_from_go_only_on_purpose(text: str) -> None:
    same_as, why = DEVIATIONS[text]
    assert parsed(text) == (same_as and parsed(same_as)), why
    assert parsed(text) != GO[text], "no deviation (any more)"


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if "json" in row and row["input"] not in DEVIATIONS],
    ids=lambda row: ascii(row["input"]),
)
def test_is_printed_as_go_prints_it(row: dict[str, Any]) -> None:
    remote = Remote.parse(row["input"])
    assert str(remote) == row["string"]
    assert remote.encode() == row["encode"]
    assert remote.local_address == row["local"]
    assert remote.target.address == row["remote"]
    forward_socks = remote.socks and not remote.reverse
    # An access list sees one form of each name, and chisel's sees it as it was written.
    in_lists = row["user_addr"].replace("Example.COM", "example.com")
    in_lists = in_lists.replace("münchen.de", "xn--mnchen-3ya.de")
    assert remote.access_address == ("socks" if forward_socks else in_lists)


def test_the_examples_in_the_docstring_are_true() -> None:
    examples = re.findall(r"^    (\S+)  +(\S+=>\S+)$", remote_module.__doc__ or "", re.MULTILINE)
    assert len(examples) == 20
    for text, shown in examples:
        assert str(Remote.parse(text)) == shown


def test_no_example_of_the_original_is_missing() -> None:
    # From `chisel client --help`.
    for text in (
        *("3000", "example.com:3000", "3000:google.com:80", "192.168.0.5:3000:google.com:80"),
        *("socks", "5000:socks", "R:2222:localhost:22", "R:socks", "R:5000:socks"),
        *("stdio:example.com:22", "1.1.1.1:53/udp"),
    ):
        assert Remote.parse(text)


# Ports

NOT_PORTS = [
    *("", " 80", "80 ", "80\n", "\t80", "8_0", "8 0", "+80", "-1", "-0", "0x50", "1e3", "80.0"),
    *("\u0661\u0662", "\uff18\uff10", "8\uff10", "\u00b2", "\u2460", "http"),
    *("65536", "99999999999", "9" * 5000),
]


@pytest.mark.parametrize("text", NOT_PORTS, ids=lambda text: ascii(text[:20]))
def test_a_port_is_ascii_digits_up_to_65535_and_nothing_else(text: str) -> None:
    with pytest.raises(RemoteError):
        parse_port(text)
    for remote in (text, f"example.com:{text}", f"R:3000:a:{text}/udp", f"a:{text}:example.com:80"):
        with pytest.raises(UsageError):
            Remote.parse(remote)
    with pytest.raises(ProtocolError):
        parse_target(f"example.com:{text}".encode())


@pytest.mark.parametrize(("text", "port"), [("0", 0), ("00", 0), ("80", 80), ("0" * 50 + "80", 80)])
def test_leading_zeros_of_a_port_do_no_harm(text: str, port: int) -> None:
    assert parse_port(text) == port


def test_port_0_is_any_free_port_to_listen_on() -> None:
    assert Remote.parse("0:example.com:80").local_port == 0
    assert Remote.parse("R:127.0.0.1:0:example.com:80").access_address == "R:127.0.0.1:0"
    assert Remote.parse("0:socks").local_port == 0


@pytest.mark.parametrize(
    "text", ["0", "example.com:0", "3000:0", "R:3000:example.com:0", "stdio:0"]
)
def test_port_0_is_nothing_to_connect_to(text: str) -> None:
    with pytest.raises(UsageError, match="port 0"):
        Remote.parse(text)


# Hosts


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "example.com", "example.com.", "a-b.c", "my_container_1", "_srv._tcp.x"),
        *("1.2.3.400", "1.2.3.4.5", "host.123", "1.2.3.08", "0x7f.0x1000000"),
        *("1.2.3.4", "1.2.3.4.example", "0xdeadbeef.com", "xn--mnchen-3ya.de", "Example.COM"),
        *("münchen.de", "示例網站.com", "пример.рф", "straße.de"),
        *("[::]", "[::1]", "[2001:db8::1]", "[::ffff:1.2.3.4]", "[fe80::1%eth0]", "[fe80::1%25]"),
        "a" * 63 + ".example",
        ("a" * 49 + ".") * 5 + "abc",
    ],
)
def test_a_host_is_taken_as_it_is(host: str) -> None:
    remote = Remote.parse(f"{host}:1:{host}:2")
    assert remote.local_host == remote.remote_host == host.strip("[]")
    assert remote.local_address == f"{host}:1"
    assert remote.channel_target == f"{host}:2".encode()


@pytest.mark.parametrize(
    "host",
    [
        # What would reach into a log, a URL or a command line
        *("a b", "a\nb", "a\0b", "a\tb", "\x1b[2J", "a\u00a0b", "a\u200bb", "a\u202eb", "a\udc80"),
        *("user@host", "a#b", "a?b", "a/b", "a\\b", "a%b", "a&b", "<a>", "a,b", "a;b", "$a", "-a"),
        *("a*", "*", "'a'", '"a"', "(a)", "{a}", "a=b", "a|b", "a~b"),
        # What no name can be
        *(".", "..", ".a", "a..b", "a.-b", "a" * 64, "a." * 127, "\u00fc" * 64),
        # Numbers that a resolver may take for an address, and what may pass for one
        *("1", "127.1", "2130706433", "0x7f000001", "0X7F.1", "0177.0.0.1", "1.2.3.4."),
        *("1.2.1000", "0.0.0.0.", "\uff11.2.3.4", "127\u30020\u30020\u30021", "\u0661\u0662"),
        # What is in brackets, and should not be; and the other way round
        *("[]", "[example.com]", "[1.2.3.4]", "[::1", "::1]", "[[::1]]", "[::1]]", "[::1]a"),
        *("[::1%]", "[::1%a%b]", "[::1%a b]", "[::1%\n]", "[::1%[a]", "a[::1]", "[%eth0]"),
        *("[:::]", "[1::2::3]", "[::g]", "[12345::]", "[::1/64]"),
    ],
    ids=ascii,
)
def test_what_is_no_host_is_refused_everywhere(host: str) -> None:
    with pytest.raises(RemoteError):
        clean_host(host)
    for text in (f"3000:{host}:80", f"{host}:3000:example.com:80", f"R:{host}:5000:socks"):
        with pytest.raises(UsageError):
            Remote.parse(text)
    with pytest.raises(ProtocolError):
        parse_target(f"{host}:80".encode("utf-8", "surrogateescape"))


def test_a_zone_written_as_in_a_url_is_the_same_zone() -> None:
    assert clean_host("[fe80::1%25eth0]") == clean_host("[fe80::1%eth0]") == "fe80::1%eth0"
    # Interface numbers, with nothing to undo.
    assert clean_host("[fe80::1%25]") == "fe80::1%25"
    assert clean_host("[fe80::1%251]") == "fe80::1%251"


# Forms


@pytest.mark.parametrize(
    ("text", "full"),
    [
        (":3000", "0.0.0.0:3000:127.0.0.1:3000"),
        ("3000::80", "0.0.0.0:3000:127.0.0.1:80"),
        (":3000:80", "0.0.0.0:3000:127.0.0.1:80"),
        (":3000:foo:80", "0.0.0.0:3000:foo:80"),
        (":5000:socks", "127.0.0.1:5000:socks"),
        ("stdio::22", "stdio:127.0.0.1:22"),
    ],
)
def test_an_empty_host_is_the_default_one(text: str, full: str) -> None:
    assert Remote.parse(text).encode() == full


@pytest.mark.parametrize("text", ["127.0.0.1:3000:80", "127.0.0.1:3000::80", "fe80::80", "R:a:1:2"])
def test_after_a_local_host_the_target_names_its_host(text: str) -> None:
    with pytest.raises(UsageError, match="after a local host"):
        Remote.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *("3000/udp:example.com:53", "3000/tcp:example.com:53/udp", "5000/udp:socks", "socks/udp"),
        *("3000/", "3000/sctp", "3000//udp", "3000/udp/udp", "/udp", "3000:example.com/udp:53"),
        *("R:stdio:22", "R:stdio:example.com:22", "R:stdio:socks", "stdio/tcp:22", "stdio:stdio"),
        *(":", "::", "R:", "R::", "R", "r", ":socks", "socks:", "3000:SOCKS", "1:2:3:4:5"),
        *("a:1:b:2:", "stdio:3000:80", "3000 80", "3000,80", "3000=>80", "tcp://a:80"),
    ],
)
def test_what_fits_no_form_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Remote.parse(text)


@pytest.mark.parametrize("text", ["3000:4000:5000", "1:2:3:4", "::1:80", "a:b:c:d:1"])
def test_what_is_left_over_in_front_of_a_target_is_not_dropped(text: str) -> None:
    with pytest.raises(UsageError, match="no local host and port in front of the target"):
        Remote.parse(text)


def test_a_refusal_quotes_the_remote_says_what_is_wrong_and_shows_a_right_form() -> None:
    with pytest.raises(UsageError) as caught:
        Remote.parse("3000:evil\x1b[2J\n.com:80")
    message = str(caught.value)
    assert r"remote '3000:evil\x1b[2J\n.com:80'" in message
    assert r"'evil\x1b[2J\n.com' is not a host name" in message
    assert "as in 3000:example.com:80" in message


# Values


def test_a_remote_knows_its_addresses() -> None:
    remote = Remote.parse("R:[::1]:53:dns.example:5353/udp")
    assert remote.target == Target("dns.example", 5353, udp=True)
    assert remote.channel_target == b"dns.example:5353/udp"
    assert remote.local_address == "[::1]:53"
    assert remote.target.address == "dns.example:5353"
    assert remote.access_address == "R:[::1]:53"
    assert str(remote) == "R:[::1]:53=>dns.example:5353/udp"


@pytest.mark.parametrize(
    ("text", "access", "channel"),
    [
        ("3000:[::1]:80", "[::1]:80", b"[::1]:80"),
        ("53:1.1.1.1:53/udp", "1.1.1.1:53", b"1.1.1.1:53/udp"),
        ("socks", "socks", b"socks"),
        ("stdio:socks", "socks", b"socks"),
        ("R:socks", "R:127.0.0.1:1080", b"socks"),
        ("R:2222:localhost:22", "R:0.0.0.0:2222", b"localhost:22"),
    ],
)
def test_access_lists_and_channels_see_different_texts(
    text: str, access: str, channel: bytes
) -> None:
    remote = Remote.parse(text)
    assert (remote.access_address, remote.channel_target) == (access, channel)


@pytest.mark.parametrize(
    "changes",
    [
        {"local_host": ""},
        {"local_host": "a b"},
        {"local_host": "R"},  # would be read as the prefix
        {"local_host": "stdio"},
        {"local_port": -1},
        {"local_port": 65536},
        {"remote_host": ""},
        {"remote_host": "a\nb"},
        {"remote_port": 0},
        {"remote_port": 65536},
        {"socks": True},  # has a target
        {"socks": True, "remote_host": "", "remote_port": 0, "udp": True},
        {"stdio": True, "udp": True},
        {"stdio": True, "reverse": True},
        {"local_path": "/x"},  # has a host and a port
        {"local_path": "/x", "local_host": ""},
        {"local_path": "/x", "local_port": 0},
        {"local_path": "x", "local_host": "", "local_port": 0},
        {"local_path": "/x", "local_host": "", "local_port": 0, "udp": True},
        {"local_path": "/x", "local_host": "", "local_port": 0, "stdio": True},
        {"remote_path": "/x"},
        {"remote_path": "/a:b", "remote_host": "", "remote_port": 0},
        {"remote_path": "/x", "remote_host": "", "remote_port": 0, "udp": True},
        {"remote_path": "/x", "remote_host": "", "remote_port": 0, "socks": True},
        {"socks_auth": ("a", "b")},  # no SOCKS
        {"socks": True, "remote_host": "", "remote_port": 0, "socks_auth": ("a:b", "c")},
        {"socks": True, "remote_host": "", "remote_port": 0, "socks_auth": ("", "c")},
    ],
)
def test_a_remote_that_makes_no_sense_cannot_be_built(changes: dict[str, Any]) -> None:
    with pytest.raises(RemoteError):
        attrs.evolve(Remote.parse("3000:example.com:80"), **changes)


def test_a_remote_without_a_remote_port_says_so() -> None:
    with pytest.raises(RemoteError, match="the remote port is missing"):
        Remote.build(local_port=3000, remote_host="example.com")


def test_hosts_lose_their_brackets_however_a_remote_is_built() -> None:
    remote = Remote.build(local_host="[::1]", remote_host="[::2]", remote_port=80)
    assert (remote.local_host, remote.remote_host) == ("::1", "::2")
    assert Target("[::1]", 80).host == "::1"
    assert join_host_port("::1", 80) == "[::1]:80"


# Properties

LABEL = st.from_regex(r"[a-z_][a-z0-9_-]{0,9}", fullmatch=True)
HOST = st.one_of(
    st.lists(LABEL, min_size=1, max_size=3).map(".".join),
    st.ip_addresses().map(str),
    st.sampled_from(["stdio", "socks", "R", "r", "münchen.de", "fe80::1%eth0", "fe80::1%25"]),
)
LOCAL_HOST = HOST.filter(lambda host: host not in ("stdio", "R"))
PORT = st.integers(1, 65535)
PATH = (
    st.text("/.-_@[]%+,~ aü0", max_size=50)
    .map("unix:/".__add__)
    .filter(lambda path: ".." not in path.split("/") and path != "unix:/..")
)
REMOTES = st.one_of(
    st.builds(
        Remote.build,
        local_host=st.just("") | LOCAL_HOST,
        local_port=st.none() | st.just(0) | PORT,
        remote_host=st.just("") | HOST,
        remote_port=PORT,
        udp=st.booleans(),
        reverse=st.booleans(),
    ),
    st.builds(
        Remote.build,
        local_host=st.just("") | LOCAL_HOST,
        local_port=st.none() | st.just(0) | PORT,
        socks=st.just(True),
        reverse=st.booleans(),
    ),
    st.builds(Remote.build, remote_host=HOST, remote_port=PORT, stdio=st.just(True)),
    st.builds(
        Remote.build,
        local_host=PATH,
        remote_host=st.just("") | HOST,
        remote_port=PORT,
        reverse=st.booleans(),
    ),
    st.builds(
        Remote.build, local_host=PATH, remote_host=PATH, reverse=st.booleans(), socks=st.just(False)
    ),
    st.builds(Remote.build, local_host=PATH, socks=st.just(True), reverse=st.booleans()),
    st.builds(
        Remote.build,
        local_host=st.just("") | LOCAL_HOST,
        local_port=st.just(0) | PORT,
        remote_host=PATH,
        reverse=st.booleans(),
    ),
    st.builds(Remote.build, remote_host=PATH, stdio=st.just(True)),
)


@pytest.mark.slow
@given(REMOTES)
def test_a_remote_and_its_target_are_read_back_from_their_texts(remote: Remote) -> None:
    assert Remote.parse(remote.encode()) == remote
    assert parse_target(remote.channel_target) == remote.target


WORDS = ["R:", "unix:", "/", "socks", "stdio", ":", "@", "80", "[::1]", "a", ".", "/udp", "..", "é"]


@given(
    st.text()
    | st.text("R:[]/.%-+@ \n0123456789acdefiklnopstux")
    | st.lists(st.sampled_from(WORDS), max_size=10).map("".join)
)
def test_any_text_is_a_remote_or_a_usage_error_on_one_line(text: str) -> None:
    try:
        remote = Remote.parse(text)
    except UsageError as error:
        shown = str(error)
    else:
        shown = str(remote)
        assert Remote.parse(remote.encode()) == attrs.evolve(remote, socks_auth=None)
    assert shown.isprintable()


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("0", "0:localhost:80"),
        ("R:0", "R:0:localhost:80"),
        ("3000:localhost:0", "0:localhost:80"),
        ("0/udp", "0:localhost:80"),
        ("R:3000:R:4000", "R:3000:localhost:4000"),
        ("3000:R:4000", "R:3000:localhost:4000"),
        ("R:R:4000", "R:3000:localhost:4000"),
        ("r:4000", "R:4000"),
        ("socks:1080", "1080:socks"),
        ("R:socks:1080", "R:1080:socks"),
        ("socks5:9050", "9050:socks"),
        ("D:1080", "1080:socks"),
        ("SOCKS", "1080:socks"),
        ("R:1080:socks5", "R:1080:socks"),
        ("udp:53", "53/udp"),
        ("tcp:{}", "3000/tcp"),
        ("stdio", "stdio:example.com:22"),
        ("3000:stdio", "stdio:example.com:22"),
        ("http://localhost:80", "3000:example.com:80"),
    ],
)
def test_words_that_look_like_another_remote_are_an_error_with_a_right_form(
    text: str, right: str
) -> None:
    with pytest.raises(UsageError) as caught:
        Remote.parse(text)
    found = str(caught.value)
    assert f" {right}" in found
    assert Remote.parse(right)


@pytest.mark.parametrize(
    "text", ["1080:socks:1080", "3000:R.:4000", "80:tcp:80", "0.0.0.0:3000:R:4000", "stdio:80"]
)
def test_hosts_with_such_names_can_be_written(text: str) -> None:
    remote = Remote.parse(text)
    assert remote.remote_host
    assert Remote.parse(remote.encode()) == remote or remote.stdio
