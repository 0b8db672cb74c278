"""The options of remotes: read, written, sent to those who need them, and refused."""

import json
from ipaddress import ip_network

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.errors import ProtocolError, UsageError
from cotun_trio.protocol.config import Config
from cotun_trio.protocol.remote import Remote
from cotun_trio.protocol.remote_options import (
    MAX_NETWORKS,
    NO_OPTIONS,
    RemoteOptions,
    split_options,
    with_options,
)


@pytest.mark.parametrize(
    ("text", "plain", "options"),
    [
        ("3000,proxy=v1", "3000", RemoteOptions("v1")),
        ("R:80:web:8080,proxy=v2", "R:80:web:8080", RemoteOptions("v2")),
        ("RP:80:web:8080", "R:80:web:8080", RemoteOptions("v2")),
        ("RP:80:web:8080,allow=::/0", "R:80:web:8080", RemoteOptions("v2", ["::/0"])),
        (
            "R:80,allow=10.1.2.3/8,allow=2001:db8::/32,proxy=v1,allow=10.0.0.0/8",
            "R:80",
            RemoteOptions("v1", ["10.0.0.0/8", "2001:db8::/32"]),
        ),
        ("R:53/udp,allow=10.0.0.1", "R:53/udp", RemoteOptions("", ["10.0.0.1/32"])),
        ("R:socks,allow=::1", "R:socks", RemoteOptions("", ["::1/128"])),
        ("R:unix:/in.sock:22,proxy=v2", "R:unix:/in.sock:22", RemoteOptions("v2")),
        ("[::1]:1:[::1]:2,allow=::1", "[::1]:1:[::1]:2", RemoteOptions("", ["::1/128"])),
        # Commas that are no options
        ("80:unix:/a,b", "80:unix:/a,b", NO_OPTIONS),
        ("80:unix:/a,,", "80:unix:/a,,", NO_OPTIONS),
        ("80:unix:/a,b,proxy=v1", "80:unix:/a,b", RemoteOptions("v1")),
        ("80:unix:/a,=,proxy=v1", "80:unix:/a,=", RemoteOptions("v1")),
        ("80:unix:/a,1=2", "80:unix:/a,1=2", NO_OPTIONS),
        ("80:unix:/a,b@c,proxy=v2", "80:unix:/a,b@c", RemoteOptions("v2")),
        ("80:unix:/a,b=c@d", "80:unix:/a,b=c@d", NO_OPTIONS),
        ("u:p,a=b@1080:socks", "u:p,a=b@1080:socks", NO_OPTIONS),
        ("u:p,a=b@1080:socks,allow=::1", "u:p,a=b@1080:socks", RemoteOptions("", ["::1"])),
    ],
)
def test_options_stand_behind_a_remote(text: str, plain: str, options: RemoteOptions) -> None:
    remote = Remote.parse(text)
    assert remote.options == options
    assert attrs.evolve(remote, options=NO_OPTIONS) == Remote.parse(plain)
    again = Remote.parse(remote.encode())
    assert again == attrs.evolve(remote, socks_auth=None)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("80:unix:/a,b=c,", "/a,b=c"),
        ("80:unix:/a,b=c,,", "/a,b=c,"),
        ("80:unix:/a,proxy=v1,", "/a,proxy=v1"),
        ("80:unix:/a,b=c,,proxy=v2", "/a,b=c"),
    ],
)
def test_a_comma_says_that_words_are_part_of_a_path(text: str, path: str) -> None:
    remote = Remote.parse(text)
    assert remote.remote_path == path
    assert Remote.parse(remote.encode()) == remote


def test_words_in_a_local_path_are_part_of_it_by_a_comma_at_the_very_end() -> None:
    remote = Remote.parse("unix:/a,b=c:22,")
    assert (remote.local_path, remote.remote_port) == ("/a,b=c", 22)
    assert Remote.parse(remote.encode()) == remote


def test_the_log_shows_options() -> None:
    remote = Remote.parse("RP:2222:localhost:22,allow=10.0.0.0/8")
    assert str(remote) == "R:2222=>localhost:22,proxy=v2,allow=10.0.0.0/8"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("3000,prox=v1", "no option 'prox': there are proxy=v1, proxy=v2 and allow=NETWORK"),
        ("3000,Proxy=v1", "no option 'Proxy'"),
        ("80:unix:/a,b=c", "no option 'b'.* a comma at the very end"),
        ("3000,proxy=V1", "proxy is v1 or v2, not 'V1'"),
        ("3000,proxy=", "proxy is v1 or v2, not ''"),
        ("3000,proxy=v1,proxy=v1", "twice"),
        ("RP:3000,proxy=v2", "twice"),
        ("3000,allow=", "allow: '' is no network"),
        ("3000,allow=10.0.0.0/33", "allow: '10.0.0.0/33' is no network"),
        ("3000,allow=example.com", "is no network"),
        ("3000,allow=1.2.3.4,", "not a port"),
        ("3000" + "".join(f",allow=10.0.0.{i}" for i in range(MAX_NETWORKS + 1)), "up to 64"),
        ("53/udp,proxy=v1", "not for UDP"),
        ("R:socks,proxy=v1", "not for UDP, SOCKS"),
        ("stdio:a:1,proxy=v1", "and stdio"),
        ("stdio:a:1,allow=::1", "visitors with an IP address"),
        ("R:unix:/a:80,allow=::1", "visitors with an IP address"),
        ("RP:unix:/a", "local port is missing"),
        ("RP:R:80", "R:"),
    ],
    ids=lambda text: ascii(text)[:40],
)
def test_options_that_make_no_sense_are_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        Remote.parse(text)
    assert str(caught.value).isprintable()


def test_an_error_does_not_show_a_password() -> None:
    for text in ("u:secret,x=y@1080:socks,a=b", "u:a,secret=@1080:socks,proxy=v1"):
        with pytest.raises(UsageError) as caught:
            Remote.parse(text)
        assert "secret" not in f"{caught.value}{caught.value.__cause__!r}"


WORDS = st.lists(
    st.sampled_from([",", "a", "=", "b=c", "@", "proxy=v1", "allow=::1", "/", ":"]), max_size=8
).map("".join)


@given(text=WORDS, options=st.sampled_from([NO_OPTIONS, RemoteOptions("v2", ["::/0", "::1"])]))
def test_what_is_written_is_split_again(text: str, options: RemoteOptions) -> None:
    plain, words = split_options(with_options(text, options))
    assert (plain, RemoteOptions.read(words)) == (text, options)


# To a server


def sent(text: str) -> dict[str, object]:
    """Return the JSON of a remote in a config request."""
    remote: dict[str, object] = json.loads(Config("1", (Remote.parse(text),)).encode())["Remotes"][
        0
    ]
    return remote


def test_a_server_is_told_whom_to_let_in_and_nothing_else() -> None:
    assert sent("R:80:web:1,allow=10.0.0.0/8,allow=::1,proxy=v2") == {
        **sent("R:80:web:1"),
        "Allow": ["10.0.0.0/8", "::1/128"],
    }
    assert sent("80:web:1,allow=10.0.0.0/8,proxy=v2") == sent("80:web:1")
    decoded = Config.decode(Config("1", (Remote.parse("R:80,allow=::1,proxy=v1"),)).encode())
    assert decoded.remotes == (Remote.parse("R:80,allow=::1"),)


def test_only_networks_of_visitors_need_a_server_of_ours() -> None:
    assert Remote.parse("R:80,allow=::1").needs_extensions
    assert not Remote.parse("R:80,proxy=v2").needs_extensions
    assert not Remote.parse("80,allow=::1,proxy=v2").needs_extensions


@pytest.mark.parametrize("allow", ["::1", [1], ["x"], [None], {}, ["::1"] * 2 + ["::1/129"]])
def test_networks_that_make_no_sense_are_refused(allow: object) -> None:
    fields = {"LocalPort": "1", "RemotePort": "1", "Reverse": True, "Allow": allow}
    with pytest.raises(ProtocolError):
        Config.decode(json.dumps({"Version": "1", "Remotes": [fields]}).encode())


def test_networks_of_a_listener_that_is_not_ours_do_not_count() -> None:
    fields = {"LocalPort": "1", "RemotePort": "1", "Allow": ["::1"]}
    config = Config.decode(json.dumps({"Version": "1", "Remotes": [fields]}).encode())
    assert config.remotes[0].options == NO_OPTIONS


def test_a_network_is_one_however_it_is_given() -> None:
    assert RemoteOptions(allow=[ip_network("10.0.0.0/8")]) == RemoteOptions(allow=["10.1.1.1/8"])
