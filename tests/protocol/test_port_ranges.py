"""Ranges of ports: they are what their single remotes are, or an error that says what to write."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.errors import UsageError
from cotun_trio.protocol import port_ranges
from cotun_trio.protocol.config import MAX_REMOTES, Config
from cotun_trio.protocol.port_ranges import has_range, parse_range, parse_remotes, parse_single
from cotun_trio.protocol.remote import Remote


def test_the_examples_in_the_docstring_are_true() -> None:
    rows = [line.split() for line in (port_ranges.__doc__ or "").splitlines() if "=>" in line]
    assert len(rows) == 5
    for text, first, dots, last in rows:
        remotes = parse_range(text)
        assert (str(remotes[0]), dots, str(remotes[-1])) == (first, "...", last)
        assert len(remotes) == remotes[-1].local_port - remotes[0].local_port + 1


@st.composite
def ranges(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Return a text with ranges, and the texts of the same remotes without."""
    count = draw(st.integers(2, 9))
    local, remote = (draw(st.integers(1, 65536 - count)) for _ in range(2))
    mark = draw(st.sampled_from(["", "R:"]))
    protocol = draw(st.sampled_from(["", "/udp", "/tcp"]))
    host = draw(st.sampled_from(["", "db:", "[::1]:", "10-20:", "a-b.example:"]))
    # Without a local port, the target's; and behind a local host the target has one, too.
    fronts = ["", "{}:", f"{{}}{protocol}:"]
    if host:
        fronts += ["127.0.0.1:{}:", "[fe80::1%eth0]:{}:"]
    # Two numbers with a hyphen behind a local host alone would be the range of its port.
    fronts += ["127.0.0.1:"] if host not in ("", "10-20:") else []
    front = draw(st.sampled_from(fronts if host != "10-20:" else fronts[1:]))
    proxy = [",proxy=v1"] if protocol != "/udp" else []
    options = draw(st.sampled_from(["", ",allow=10.0.0.0/8,allow=::1", *proxy]))

    def written(local: object, remote: object) -> str:
        return f"{mark}{front.format(local)}{host}{remote}{protocol}{options}"

    def run(first: int) -> str:
        return f"{first}-{first + count - 1}"

    return written(run(local), run(remote)), [written(local + n, remote + n) for n in range(count)]


@pytest.mark.slow
@given(ranges())
def test_a_range_is_what_its_single_remotes_are(written: tuple[str, list[str]]) -> None:
    text, singles = written
    remotes = parse_range(text)
    assert remotes == tuple(map(Remote.parse, singles))
    assert {remote.range_text for remote in remotes} == {text}
    sent = Config("1", remotes).encode()
    assert sent == Config("1", tuple(map(Remote.parse, singles))).encode()


def test_the_header_of_the_mark_is_that_of_all() -> None:
    assert parse_range("RP:80-81:web:80-81") == (
        Remote.parse("R:80:web:80,proxy=v2"),
        Remote.parse("R:81:web:81,proxy=v2"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "3000",
        "0:db:80",
        "R:127.0.0.1:1080:socks",
        "stdio:db:22",
        "unix:/run/1-2:80",
        "80:unix:/run/a-b,c=1-2,",
        "80:a-b:80",
        # Logins
        "me:1-2@1080:socks",
        "me:1-2:3-4@1080:socks",
        # Hosts of two numbers
        "80:10-20:80",
        "80:10-20:80/udp",
        "stdio:10-20:80",
        "unix:/run/a:10-20:80",
        "0.0.0.0:80:10-20:80",
        "10-20:80:db:80",
        "R:10-20:80:10-20:80",
        "10-20:1080:socks",
        "10-20:80:unix:/run/a",
    ],
)
def test_what_has_no_range_is_one_remote(text: str) -> None:
    (remote,) = parse_range(text)
    assert remote == Remote.parse(text)
    assert not remote.range_text
    assert not has_range(text)
    assert parse_single(text) == remote


def test_a_range_of_one_port_is_one_remote() -> None:
    for text in ("3000-3000:db:80", "3000:db:80-80", "3000-3000:db:80-80"):
        assert parse_range(text) == (Remote.parse("3000:db:80"),)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        # Lengths
        (
            "3000-3010:db:80",
            "11 ports at one end and 1 at the other: .*as in 3000-3010:db:3000-3010",
        ),
        ("3000:db:3000-3010", "11 ports at one end and 1 "),
        ("0:db:3000-3010", "11 ports at one end and 1 "),
        ("3000-3010:db:3000-3009", "11 ports at one end and 10 .*3000-3010:db:3000-3010$"),
        ("127.0.0.1:3000-3010:80", "11 ports at one end and 1 "),
        ("1-2:1-3:1-4:x:y", "4 ports at one end and 2 "),
        ("3000-3010:80", "for a host of that name, the full form, as in 0.0.0.0:80:3000-3010:80$"),
        # Numbers
        ("3010-3000", "a range goes up: write 3000-3010"),
        ("0-10:db:1-11", "port 0 stands for any free one, and is in no range"),
        ("65530-65536", "'65536' is not a port"),
        ("1-99999999999999999999", "is not a port"),
        (f"1-{MAX_REMOTES + 1}", f"a range has up to {MAX_REMOTES} ports, not {MAX_REMOTES + 1}"),
        # Other kinds
        ("3000-3010:socks", "SOCKS, Unix sockets and stdio have one place each"),
        ("R:127.0.0.1:3000-3010:socks", "have one place each"),
        ("stdio:db:3000-3010", "have one place each"),
        ("unix:/run/a:db:3000-3010", "have one place each"),
        ("3000-3010:unix:/run/a", "have one place each"),
        # What a single remote would be refused for
        ("3000-3010:d b:3000-3010", "'d b' is not a host name or an address; write "),
        ("127.0.0.1:1-2:1-2", "after a local host, the target has to name its host too; write "),
        ("1-2/udp:db:1-2", "both ends of a remote have the same protocol"),
        ("1-2:db:1-2/sctp", "names a protocol other than tcp and udp"),
        ("1-2:db:1-2,color=red", "there is no option 'color'"),
        ("1-2/udp,proxy=v1", "proxy is for streams"),
        ("R:1-2:R:1-2", "R: goes in front of all"),
    ],
)
def test_a_range_that_makes_no_sense_says_what_to_write(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        parse_range(text)
    assert str(caught.value).startswith(f"remote '{text}': ")
    assert has_range(text)


def test_an_error_does_not_show_a_password() -> None:
    with pytest.raises(UsageError, match=r"remote '\*\*\*@1-2:socks': SOCKS, ") as caught:
        parse_range("me:secret@1-2:socks")
    assert "secret" not in str(caught.value)


WORDS = [
    "R:",
    "unix:/",
    "socks",
    "stdio",
    ":",
    "@",
    "1-3",
    "4-6",
    "80",
    "[::1]",
    "a",
    "/udp",
    "0-1",
]


@given(st.lists(st.sampled_from(WORDS), max_size=10).map("".join))
def test_any_text_is_remotes_or_a_usage_error_on_one_line(text: str) -> None:
    try:
        remotes = parse_range(text)
    except UsageError as error:
        shown = str(error)
        remotes = ()
    else:
        shown = "".join(map(str, remotes))
    assert shown.isprintable()
    for distance, remote in enumerate(remotes):
        assert parse_range(remote.encode())[0].encode() == remote.encode()
        if distance:
            assert remote.local_port == remotes[0].local_port + distance
            assert remote.remote_port == remotes[0].remote_port + distance


def test_texts_are_remotes_in_their_order() -> None:
    found = parse_remotes(["80", "90-91:db:1-2", "R:100"])
    assert list(map(str, found)) == ["80=>80", "90=>db:1", "91=>db:2", "R:100=>100"]


def test_ranges_are_as_many_remotes_as_one_request_can_have() -> None:
    most = [f"1-{MAX_REMOTES - 1}", "30000"]
    assert len(parse_remotes(most)) == MAX_REMOTES
    for texts in ([*most, "30001"], ["30001", *most]):
        with pytest.raises(UsageError, match=f"a client with ranges has up to {MAX_REMOTES}: "):
            parse_remotes(texts)
    with pytest.raises(UsageError, match="have several clients"):
        parse_remotes(itertools.repeat("1-1000"))  # it gives up in time


def test_where_one_remote_is_wanted_a_range_is_refused() -> None:
    with pytest.raises(
        UsageError, match="a range of 11 ports is as many remotes, and this takes one: "
    ):
        parse_single("3000-3010")
