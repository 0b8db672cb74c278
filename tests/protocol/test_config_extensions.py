"""What a config request may hold between two cotun-trio ends, and Go ignores."""

import json

import pytest

from cotun_trio.errors import ProtocolError
from cotun_trio.protocol.config import MAX_IDENTITY, MAX_NODES, Config
from cotun_trio.protocol.remote import Remote


def remotes(*texts: str) -> tuple[Remote, ...]:
    return tuple(Remote.parse(text) for text in texts)


def one(**fields: object) -> bytes:
    """Return a config request with one remote of the given fields."""
    return json.dumps({"Version": "1", "Remotes": [fields]}).encode()


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (
            "8080:unix:/run/x.sock",
            {"LocalHost": "0.0.0.0", "LocalPort": "8080"}
            | {"RemoteHost": "unix:/run/x.sock", "RemotePort": ""},
        ),
        (
            "R:unix:./x.sock:db:5432",
            {"LocalHost": "unix:./x.sock", "LocalPort": ""}
            | {"RemoteHost": "db", "RemotePort": "5432"},
        ),
        (
            "unix:/a:unix:/b",
            {"LocalHost": "unix:/a", "LocalPort": "", "RemoteHost": "unix:/b", "RemotePort": ""},
        ),
        (
            "unix:/a:socks",
            {"LocalHost": "unix:/a", "LocalPort": "", "RemoteHost": "", "RemotePort": ""},
        ),
        ("stdio:unix:/b", {"LocalPort": "0", "RemoteHost": "unix:/b", "RemotePort": ""}),
    ],
)
def test_a_path_goes_in_the_field_of_the_host_without_a_port(
    text: str, fields: dict[str, str]
) -> None:
    config = Config("1", remotes(text))
    sent = json.loads(config.encode())["Remotes"][0]
    assert fields.items() <= sent.items()
    assert Config.decode(config.encode()) == config


@pytest.mark.parametrize(
    "fields",
    [
        {"RemoteHost": "unix:/x", "RemotePort": "80"},
        {"RemoteHost": "unix:/x"},  # nothing to listen on
        {"LocalHost": "unix:/x", "LocalPort": "0", "RemotePort": "80"},
        {"LocalHost": "unix:/x", "RemotePort": "53", "RemoteProto": "udp"},
        {"LocalPort": "1", "RemoteHost": "unix:/x", "RemoteProto": "udp"},
        {"LocalPort": "1", "RemoteHost": "unix:/x", "Socks": True},
        {"LocalPort": "1", "RemoteHost": "unix:/a:b"},
        {"LocalPort": "1", "RemoteHost": "unix:/a/../b"},
        {"LocalPort": "1", "RemoteHost": "unix:/a\0b"},
        {"LocalPort": "1", "RemoteHost": "unix:/a\ud800b"},
        {"LocalPort": "1", "RemoteHost": "unix:/" + "x" * 107},
        {"LocalPort": "1", "RemoteHost": "unix:x"},
        {"LocalPort": "1", "RemoteHost": "/x"},
    ],
    ids=lambda fields: ascii(fields)[:60],
)
def test_a_path_that_makes_no_sense_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ProtocolError) as caught:
        Config.decode(one(**fields))
    assert str(caught.value).isprintable()


def test_the_login_of_a_socks_listener_goes_to_who_listens_and_to_nobody_else() -> None:
    theirs = Config("1", remotes("R:user:a:secret@1080:socks"))
    assert json.loads(theirs.encode())["Remotes"][0]["SocksAuth"] == "user:a:secret"
    assert Config.decode(theirs.encode()).remotes[0].socks_auth == ("user", "a:secret")
    ours = Config("1", remotes("user:a:secret@1080:socks"))
    assert ours.encode() == Config("1", remotes("socks")).encode()


def test_a_login_that_is_none_of_ours_is_left_alone() -> None:
    assert Config.decode(one(Socks=True, SocksAuth="a:b")).remotes == remotes("socks")
    assert Config.decode(one(Socks=True, Reverse=True, SocksAuth="")).remotes == remotes("R:socks")


@pytest.mark.parametrize(
    "fields",
    [
        *({"SocksAuth": auth} for auth in ("secret", ":secret", "secret:", ":", "secret\ud800:x")),
        *({"SocksAuth": auth} for auth in ("x:" + "secret" * 50, 1, ["secret", "x"], True)),
        {"Socks": False, "RemotePort": "80", "SocksAuth": "x:secret"},
    ],
    ids=lambda fields: ascii(fields)[:60],
)
def test_a_login_that_makes_no_sense_is_refused_and_not_shown(fields: dict[str, object]) -> None:
    with pytest.raises(ProtocolError) as caught:
        Config.decode(one(**({"Socks": True, "Reverse": True} | fields)))
    assert "secret" not in f"{caught.value}{caught.value.__cause__!r}"


IDENTITY = "0123456789abcdef" * 2


def test_an_identity_is_the_last_field_and_nobody_sees_it() -> None:
    config = Config("1", remotes("socks"), IDENTITY)
    anonymous = Config("1", remotes("socks")).encode()
    added = f',"CotunTrio":{{"Identity":"{IDENTITY}"}}'
    assert config.encode() == anonymous[:-1] + added.encode() + b"}"
    assert Config.decode(config.encode()) == config
    assert Config.decode(anonymous).identity == ""
    assert IDENTITY not in repr(config)


@pytest.mark.parametrize(
    ("fields", "identity"),
    [
        ({"CotunTrio": {"Identity": "a" * MAX_IDENTITY}}, "a" * MAX_IDENTITY),
        ({"cotuntrio": {"identity": "1", "More": [1]}}, "1"),
        ({"CotunTrio": {"Identity": ""}}, ""),
        ({"CotunTrio": {"Identity": None}}, ""),
        ({"CotunTrio": {}}, ""),
        ({"CotunTrio": None}, ""),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_an_identity_may_be_missing_anywhere(fields: dict[str, object], identity: str) -> None:
    assert Config.decode(json.dumps(fields).encode()).identity == identity


@pytest.mark.parametrize(
    "ours",
    [
        *("a", 1, True, [], [{"Identity": "a"}], {"Identity": 1}, {"Identity": ["a"]}),
        *({"Identity": {}}, {"Identity": "g"}, {"Identity": "A"}, {"Identity": "a\n"}),
        *({"Identity": "\u0661"}, {"Identity": "a" * (MAX_IDENTITY + 1)}),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_an_identity_is_up_to_64_hexadecimal_digits_and_nothing_else(ours: object) -> None:
    with pytest.raises(ProtocolError, match=r"^config request: "):
        Config.decode(json.dumps({"CotunTrio": ours}).encode())


def test_the_servers_that_a_client_has_sessions_with_are_sent_with_its_identity() -> None:
    config = Config("1", (), identity="aa", nodes=("01", "02"))
    assert json.loads(config.encode())["CotunTrio"] == {"Identity": "aa", "Nodes": ["01", "02"]}
    assert Config.decode(config.encode()) == config


def test_a_client_with_one_connection_sends_none() -> None:
    assert b"Nodes" not in Config("1", (), identity="aa").encode()


@pytest.mark.parametrize(
    "nodes", ["01", {"a": 1}, [1], [["aa"]], ["x"], ["0" * (MAX_IDENTITY + 1)], ["a\n"]]
)
def test_what_is_no_list_of_identities_is_an_error(nodes: object) -> None:
    payload = json.dumps({"CotunTrio": {"Identity": "aa", "Nodes": nodes}}).encode()
    with pytest.raises(ProtocolError, match=r"^config request: .*Nodes") as caught:
        Config.decode(payload)
    assert str(caught.value).isprintable()


def test_the_number_of_servers_is_bounded() -> None:
    most = ("aa",) * MAX_NODES
    assert Config.decode(Config("1", (), identity="aa", nodes=most).encode()).nodes == most
    with pytest.raises(ProtocolError, match=f"more than {MAX_NODES} Nodes"):
        Config.decode(Config("1", (), identity="aa", nodes=(*most, "aa")).encode())
