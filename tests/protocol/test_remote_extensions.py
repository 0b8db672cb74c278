"""Remotes that chisel has no form for: Unix-domain sockets, and SOCKS listeners with a login."""

import attrs
import pytest

from cotun_trio.errors import UsageError
from cotun_trio.protocol.addresses import MAX_PATH
from cotun_trio.protocol.remote import MAX_LOGIN, Remote
from cotun_trio.protocol.target import Target

# Unix-domain sockets


@pytest.mark.parametrize(
    ("text", "full", "shown"),
    [
        ("8080:unix:/run/x.sock", "0.0.0.0:8080:unix:/run/x.sock", "8080=>unix:/run/x.sock"),
        ("8080/tcp:unix:/x", "0.0.0.0:8080:unix:/x", "8080=>unix:/x"),
        ("0:unix:/x", "0.0.0.0:0:unix:/x", "0=>unix:/x"),
        ("[::1]:80:unix:./x", "[::1]:80:unix:./x", "[::1]:80=>unix:./x"),
        ("unix:./db.sock:db:5432", "unix:./db.sock:db:5432", "unix:./db.sock=>db:5432"),
        ("unix:/x:[::1]:80", "unix:/x:[::1]:80", "unix:/x=>[::1]:80"),
        ("unix:/x:80", "unix:/x:127.0.0.1:80", "unix:/x=>80"),
        ("unix:/x:80/tcp", "unix:/x:127.0.0.1:80", "unix:/x=>80"),
        ("unix:/a.sock:unix:/b.sock", "unix:/a.sock:unix:/b.sock", "unix:/a.sock=>unix:/b.sock"),
        ("unix:/a.sock:socks", "unix:/a.sock:socks", "unix:/a.sock=>socks"),
        ("stdio:unix:/x", "stdio:unix:/x", "stdio=>unix:/x"),
        ("R:unix:/x:localhost:22", "R:unix:/x:localhost:22", "R:unix:/x=>localhost:22"),
        ("R:unix:/x:unix:/y", "R:unix:/x:unix:/y", "R:unix:/x=>unix:/y"),
        ("R:80:unix:/y", "R:0.0.0.0:80:unix:/y", "R:80=>unix:/y"),
        ("R:unix:/x:socks", "R:unix:/x:socks", "R:unix:/x=>socks"),
        # Whatever looks like something else in a path
        ("8080:unix:/a@1.sock", "0.0.0.0:8080:unix:/a@1.sock", "8080=>unix:/a@1.sock"),
        ("8080:unix:/a@socks", "0.0.0.0:8080:unix:/a@socks", "8080=>unix:/a@socks"),
        ("unix:/a@b:socks", "unix:/a@b:socks", "unix:/a@b=>socks"),
        ("unix:/a]b:[::1]:80", "unix:/a]b:[::1]:80", "unix:/a]b=>[::1]:80"),
        ("unix:/[a:[::1]:80", "unix:/[a:[::1]:80", "unix:/[a=>[::1]:80"),
        ("80:unix:/unix", "0.0.0.0:80:unix:/unix", "80=>unix:/unix"),
        ("80:unix:/53/udp", "0.0.0.0:80:unix:/53/udp", "80=>unix:/53/udp"),
        ("80:unix:/a b", "0.0.0.0:80:unix:/a b", "80=>unix:/a b"),
    ],
)
def test_a_path_stands_in_the_place_of_a_host_and_a_port(text: str, full: str, shown: str) -> None:
    remote = Remote.parse(text)
    assert (remote.encode(), str(remote)) == (full, shown)
    assert Remote.parse(full) == remote


def test_a_remote_knows_its_paths() -> None:
    remote = Remote.parse("R:unix:/a.sock:unix:/b.sock")
    assert (remote.local_path, remote.local_host, remote.local_port) == ("/a.sock", "", 0)
    assert (remote.remote_path, remote.remote_host, remote.remote_port) == ("/b.sock", "", 0)
    assert remote.target == Target("", 0, path="/b.sock")
    assert remote.channel_target == b"unix:/b.sock"
    assert remote.local_address == "unix:/a.sock"
    assert remote.target.address == "unix:/b.sock"


@pytest.mark.parametrize(
    ("text", "access"),
    [
        ("8080:unix:/x", "unix:/x"),
        ("unix:/x:unix:/y", "unix:/y"),
        ("unix:/x:db:5432", "db:5432"),
        ("unix:/x:socks", "socks"),
        ("R:unix:/x:unix:/y", "R:unix:/x"),
        ("R:unix:/x:socks", "R:unix:/x"),
    ],
)
def test_an_access_list_sees_the_path_that_the_peer_opens(text: str, access: str) -> None:
    assert Remote.parse(text).access_address == access


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("8080:unix:/x", True),
        ("unix:/x:unix:/y", True),
        ("stdio:unix:/x", True),
        ("R:unix:/x:localhost:22", True),
        ("R:unix:/x:socks", True),
        ("R:me:secret@socks", True),
        # What is the client's own business
        ("unix:/x:db:5432", False),
        ("unix:/x:socks", False),
        ("R:22:unix:/x", False),
        ("me:secret@socks", False),
        ("3000", False),
        ("R:3000", False),
    ],
)
def test_extensions_are_needed_where_the_peer_opens_a_path_or_asks_for_a_login(
    text: str, needed: bool
) -> None:
    assert Remote.parse(text).needs_extensions is needed


@pytest.mark.parametrize(
    ("text", "part", "host"),
    [
        ("unix:80", "remote_host", "unix"),
        ("3000:unix:80", "remote_host", "unix"),
        ("unix:3000:example.com:80", "local_host", "unix"),
        ("unix:example.com:80", "local_host", "unix"),
        ("53:unix:53/udp", "remote_host", "unix"),
    ],
)
def test_a_host_may_be_called_unix(text: str, part: str, host: str) -> None:
    remote = Remote.parse(text)
    assert getattr(remote, part) == host
    assert not remote.local_path
    assert not remote.remote_path
    assert not remote.needs_extensions


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("unix:/x", "local port is missing"),
        ("R:unix:/x", "local port is missing"),
        ("127.0.0.1:unix:/x", "local port is missing"),
        ("unix:/x:3000:db:5432", "has no port"),
        ("unix:/x:3000:socks", "has no port"),
        ("unix:/x:3000:80", "has no port"),
        ("80:unix:/x:81", "no local host and port"),
        ("80:unix:/x:db:81", "no local host and port"),
        ("80:unix:/x:unix:/y", "no local host and port"),
        ("unix:/x:53/udp", "no UDP"),
        ("unix:/x:dns:53/udp", "no UDP"),
        ("53/udp:unix:/x", "same protocol"),
        ("stdio:unix:/x:unix:/y", "no local host and port"),
        ("R:stdio:unix:/x", "stdio"),
        ("80:unix:", "'' is not a port"),
        ("80:unix:x.sock", "not a port"),
        ("80:unix:/x:", "'' is not a port"),
        ("80:unix:/x/udp:", "'' is not a port"),
        ("80:unix:/run/../x", "goes up"),
        ("unix:../x:80", "goes up"),
        ("80:unix:/a\0b", "plain characters"),
        ("80:unix:/a\nb", "plain characters"),
        ("80:unix:/a\x7fb", "plain characters"),
        ("80:unix:/a\u202eb", "plain characters"),
        ("80:unix:/a\udcffb", "plain characters"),
        ("80:unix:/" + "x" * MAX_PATH, "too long"),
        ("unix:/" + "x" * MAX_PATH + ":80", "too long"),
    ],
    ids=lambda text: ascii(text[:40]),
)
def test_a_path_that_fits_no_form_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        Remote.parse(text)
    assert str(caught.value).isprintable()


# SOCKS listeners with a login


@pytest.mark.parametrize(
    ("text", "login", "full"),
    [
        ("user:pass@127.0.0.1:1080:socks", ("user", "pass"), "127.0.0.1:1080:socks"),
        ("user:pass@socks", ("user", "pass"), "127.0.0.1:1080:socks"),
        ("user:pass@5000:socks", ("user", "pass"), "127.0.0.1:5000:socks"),
        ("user:pass@:5000:socks", ("user", "pass"), "127.0.0.1:5000:socks"),
        ("user:pass@[::1]:1080:socks", ("user", "pass"), "[::1]:1080:socks"),
        ("user:pass@unix:/x:socks", ("user", "pass"), "unix:/x:socks"),
        ("R:user:pass@[::1]:1080:socks", ("user", "pass"), "R:[::1]:1080:socks"),
        ("R:user:pass@socks", ("user", "pass"), "R:127.0.0.1:1080:socks"),
        # The first colon, and the last @
        ("a:b:c@1080:socks", ("a", "b:c"), "127.0.0.1:1080:socks"),
        ("a::@1080:socks", ("a", ":"), "127.0.0.1:1080:socks"),
        ("a:b@c@1080:socks", ("a", "b@c"), "127.0.0.1:1080:socks"),
        ("a@b:c@1080:socks", ("a@b", "c"), "127.0.0.1:1080:socks"),
        ("a:[::1]@1080:socks", ("a", "[::1]"), "127.0.0.1:1080:socks"),
        ("a:[@[::1]:1080:socks", ("a", "["), "[::1]:1080:socks"),
        ("a:]@[::1]:1080:socks", ("a", "]"), "[::1]:1080:socks"),
        ("a:socks@1080:socks", ("a", "socks"), "127.0.0.1:1080:socks"),
        ("ü ü:\n@1080:socks", ("ü ü", "\n"), "127.0.0.1:1080:socks"),
        ("u:" + "p" * MAX_LOGIN + "@1:socks", ("u", "p" * MAX_LOGIN), "127.0.0.1:1:socks"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_socks_listener_may_ask_for_a_login(text: str, login: tuple[str, str], full: str) -> None:
    remote = Remote.parse(text)
    assert remote.socks_auth == login
    assert attrs.evolve(remote, socks_auth=None) == Remote.parse(full)


def test_a_login_is_shown_nowhere() -> None:
    remote = Remote.parse("R:user:secret@1080:socks")
    for shown in (repr(remote), str(remote), remote.encode(), remote.access_address):
        assert "secret" not in shown
        assert "user" not in shown
    assert b"secret" not in remote.channel_target


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("user:secret@8080:example.com:80", "only SOCKS listeners"),
        ("user:secret@example.com:80", "only SOCKS listeners"),
        ("user:secret@80", "only SOCKS listeners"),
        ("8080:user:secret@example.com:80", "only SOCKS listeners"),
        ("user:secret@8080:unix:/x@y", "only SOCKS listeners"),
        ("user:secret@host/socks", "only SOCKS listeners"),
        ("usersecret@1080:socks", "user:password"),
        ("secret@socks", "user:password"),
        (":secret@1080:socks", "1 to 255"),
        ("secret:@1080:socks", "1 to 255"),
        ("user:" + "secret" * 50 + "@1080:socks", "1 to 255"),
        ("secret" * 50 + ":pass@1080:socks", "1 to 255"),
        ("user:secret\udcff@1080:socks", "1 to 255"),
        ("user:secret@stdio:socks", "only a SOCKS listener"),
        ("user:secret@xsocks", "only SOCKS listeners"),
        ("user:secret@99999:socks", "not a port"),
        ("user:secret@R:1080:socks", "no host to listen on"),
        ("user:secret@a b:1080:socks", "not a host"),
        ("user:secret@1:2:3:socks", "no local host"),
    ],
    ids=lambda text: ascii(text[:40]),
)
def test_a_login_that_fits_no_form_is_refused_and_not_shown(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        Remote.parse(text)
    assert "secret" not in f"{caught.value}{caught.value.__cause__!r}"
