"""Targets: what the open of a channel carries."""

import contextlib
import socket
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.errors import ProtocolError
from cotun_trio.protocol.addresses import MAX_HOST, MAX_PATH, RemoteError, ascii_name
from cotun_trio.protocol.target import MAX_TARGET, Target, parse_target


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        (b"example.com:80", Target("example.com", 80)),
        (b"1.1.1.1:53/udp", Target("1.1.1.1", 53, udp=True)),
        (b"[::1]:80", Target("::1", 80)),
        (b"[fe80::1%eth0]:53/udp", Target("fe80::1%eth0", 53, udp=True)),
        (b":1", Target("127.0.0.1", 1)),
        (b"socks", Target("", 0, socks=True)),
        (b"socks:1", Target("socks", 1)),
        (b"a:00080", Target("a", 80)),  # a Go client passes on what its user typed
        ("münchen.de:80".encode(), Target("münchen.de", 80)),
        (b"unix:80", Target("unix", 80)),
        (b"unix:/run/app.sock", Target("", 0, path="/run/app.sock")),
        (b"unix:./app.sock", Target("", 0, path="./app.sock")),
        (b"unix:.app", Target("", 0, path=".app")),
        (b"unix:/run/app@1 [x].sock", Target("", 0, path="/run/app@1 [x].sock")),
        (b"unix:/run/app.sock:", Target("", 0, path="/run/app.sock")),  # from a Go server
        (b"unix:/53/udp", Target("", 0, path="/53/udp")),
    ],
)
def test_a_target_is_a_host_and_a_port_or_a_path_or_socks(raw: bytes, target: Target) -> None:
    assert parse_target(raw) == target


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b":", b"example.com", b"example.com:", b"80", b"example.com:0", b"example.com:http"),
        *(b"a:80/", b"a:80/tcp", b"a:80/UDP", b"a:80/udp/udp", b"a/udp:80", b"a:80 ", b"a:80\n"),
        *(b"SOCKS", b"socks/udp", b"socks\n", b" socks", b"socks:", b"stdio", b"R:a:80", b"a:b:80"),
        *(b"::1:80", b"[::1]", b"[::1]80", b"[::1]:", b"[]:80", b"[::1]x:80", b"/run/x.sock"),
        *(b"unix:", b"unix:app.sock", b"unix:app/x.sock", b"UNIX:/x", b"unix/x", b"unix:~/x"),
        *(b"unix:/a:80", b"unix:/a::", b"unix:/a:/udp", b"unix:/a\0b", b"unix:/a\n", b"unix:/\xff"),
        *(b"unix:/a\x1bb", "unix:/a\u202eb".encode(), "unix:/a\u00a0b".encode(), b"unix:@abstract"),
        *(b"unix:/run/../x", b"unix:..", b"unix:../x", b"unix:/x/..", b"unix:./../x"),
        *(b"\xff:80", b"\xff", b"a\0b:80", b"a:8\0", b"\xef\xbb\xbfa:80"),
        b"a" * 2000 + b":80",
    ],
    ids=ascii,
)
def test_any_other_target_is_a_protocol_error(raw: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^channel target '"):
        parse_target(raw)


def test_the_longest_host_fits_a_target_and_no_longer_text_is_looked_at() -> None:
    host = ".".join(["a" * 49] * 5 + ["abc"])
    assert len(host) == MAX_HOST
    assert parse_target(f"{host}:65535/udp".encode()).host == host
    assert len("\U0001f600".encode() * MAX_HOST + b":65535/udp") <= MAX_TARGET
    assert parse_target(b"a:" + b"0" * (MAX_TARGET - 3) + b"1") == Target("a", 1)
    with pytest.raises(ProtocolError, match="longer than 1024 bytes"):
        parse_target(b"a:" + b"0" * MAX_TARGET + b"1")


@pytest.mark.parametrize("character", ["x", "ü", "示"])
def test_a_path_is_as_long_as_the_system_takes(character: str) -> None:
    # In bytes, not in characters; what is left is filled up.
    count, left = divmod(MAX_PATH - 1, len(character.encode()))
    path = "/" + character * count + "x" * left
    assert parse_target(f"unix:{path}".encode()).path == path
    with pytest.raises(ProtocolError, match="too long for a socket"):
        parse_target(f"unix:{path}x".encode())


def test_a_path_of_the_greatest_length_can_be_listened_on(tmp_path: Path) -> None:
    # The kernel's word on MAX_PATH.  A relative path, as that of the directory may be long.
    with contextlib.chdir(tmp_path), socket.socket(socket.AF_UNIX) as listener:
        listener.bind("./" + "x" * (MAX_PATH - 2))
    with contextlib.chdir(tmp_path), socket.socket(socket.AF_UNIX) as listener:
        too_long = "./" + "x" * (MAX_PATH - 1)
        with pytest.raises(OSError, match="too long"):
            listener.bind(too_long)


def test_two_dots_in_a_name_are_no_way_up() -> None:
    assert parse_target(b"unix:/run/a..b/..c").path == "/run/a..b/..c"


def test_an_access_list_sees_the_path() -> None:
    assert parse_target(b"unix:/run/app.sock").address == "unix:/run/app.sock"


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "a"},
        {"port": 80},
        {"udp": True},
        {"socks": True},
        {"path": "app.sock"},
        {"path": "/a:b"},
    ],
)
def test_a_target_with_a_path_that_makes_no_sense_cannot_be_built(changes: dict[str, Any]) -> None:
    with pytest.raises(RemoteError):
        attrs.evolve(Target("", 0, path="/run/app.sock"), **changes)


TEXTS = st.text(":[]/.%\n0123456789acdkopsu") | st.text("/.:a\0@ ü").map("unix:".__add__)


@given(st.binary() | TEXTS.map(str.encode))
def test_any_bytes_are_a_target_or_a_protocol_error_on_one_line(raw: bytes) -> None:
    try:
        target = parse_target(raw)
    except ProtocolError as error:
        shown = str(error)
    else:
        shown = str(target)
        assert parse_target(shown.encode()) == target
    assert shown.isprintable()


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("straße.example", "xn--strae-oqa.example"),  # strasse in IDNA 2003, which is another host
        ("MÜNCHEN.example.", "xn--mnchen-3ya.example"),
        ("_srv.пример.рф", "_srv.xn--e1afmkfd.xn--p1ai"),
        ("db.1", "db.1"),
    ],
)
def test_an_access_list_sees_the_name_that_is_looked_up(host: str, name: str) -> None:
    target = Target(host, 80)
    assert target.access_address == f"{name}:80"
    assert ascii_name(target.host).lower().removesuffix(".") == name
