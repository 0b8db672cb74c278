"""Settings: what is taken, what is the user's error, and that no secret is ever printed."""

from __future__ import annotations

import inspect
from typing import Any

import attrs
import pytest

from cotun_trio.access.credentials import Credentials
from cotun_trio.cli.client import client as command
from cotun_trio.errors import UsageError
from cotun_trio.protocol.addresses import host_header, name_for_tls
from cotun_trio.protocol.config import MAX_REMOTES
from cotun_trio.protocol.dialect import CHISEL, COTUN
from cotun_trio.protocol.remote import Remote
from cotun_trio.settings import (
    ClientOptions,
    ClientSettings,
    ClientTls,
    ServerSettings,
    ServerUrl,
    Timings,
    parse_bytes,
    parse_header,
)
from cotun_trio.settings.tls import ServerAcme

FINGERPRINT = "OHclTPr2X1+S7CdRWW7dLFP7SwgtZy6jub2UmnpbTXw="


# ---- the server's URL


@pytest.mark.parametrize(
    ("text", "host", "port", "path", "authority"),
    [
        ("example.com", "example.com", 80, "/", "example.com"),
        ("example.com:8080", "example.com", 8080, "/", "example.com:8080"),
        ("http://example.com:8080", "example.com", 8080, "/", "example.com:8080"),
        ("http://example.com:80/", "example.com", 80, "/", "example.com"),
        ("http://example.com:/", "example.com", 80, "/", "example.com"),
        ("ws://example.com/a/b?c=d", "example.com", 80, "/a/b?c=d", "example.com"),
        ("http://example.com?c=d", "example.com", 80, "/?c=d", "example.com"),
        ("http://example.com/a#b", "example.com", 80, "/a", "example.com"),
        ("HTTP://Example.COM", "example.com", 80, "/", "example.com"),
        ("https://example.com", "example.com", 443, "/", "example.com"),
        ("wss://example.com:443/a", "example.com", 443, "/a", "example.com"),
        ("https://example.com:80", "example.com", 80, "/", "example.com:80"),
        ("http://example.com:443", "example.com", 443, "/", "example.com:443"),
        ("localhost:1", "localhost", 1, "/", "localhost:1"),
        ("127.0.0.1:65535", "127.0.0.1", 65535, "/", "127.0.0.1:65535"),
        ("http://[::1]", "::1", 80, "/", "[::1]"),
        ("[2001:db8::1]:8080/x", "2001:db8::1", 8080, "/x", "[2001:db8::1]:8080"),
        ("http://münchen.example", "münchen.example", 80, "/", "münchen.example"),
        ("http://example.com/a@b", "example.com", 80, "/a@b", "example.com"),
        ("https://example.com./", "example.com.", 443, "/", "example.com."),
        ("http://host.123:8080", "host.123", 8080, "/", "host.123:8080"),
        ("[fe80::1%25eth0]:8080", "fe80::1%eth0", 8080, "/", "[fe80::1%25eth0]:8080"),
        ("http://[fe80::1%251]", "fe80::1%1", 80, "/", "[fe80::1%251]"),
        ("http://[fe80::1%eth0]", "fe80::1%eth0", 80, "/", "[fe80::1%25eth0]"),
        ("http://example.com/%C3%A9%20", "example.com", 80, "/%C3%A9%20", "example.com"),
    ],
)
def test_a_servers_url_is_read(text: str, host: str, port: int, path: str, authority: str) -> None:
    url = ServerUrl.parse(text)
    assert (url.host, url.port, url.path) == (host, port, path)
    assert url.authority == authority


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://",
        "http:///path",
        "http://:8080",
        ":8080",
        "://example.com",
        "ftp://example.com",
        "unix:///run/x",
        "http://example.com:http",
        "http://example.com:0",
        "http://example.com:65536",
        "http://example.com:-1",
        "http://example.com:8_0",
        "http://example.com:٨٠",
        "http://[::1",
        "http://::1",
        "http://exa mple.com",
        "http://example.com/a b",
        "http://example.com/\n",
        "http://example.com\r\nX: y",
        "http://example.com/\t",
        "http://example.com/é",
        "http://example.com/?é",
        "http://exam\x00ple.com",
        "http://user@example.com",
        "http://127.1",
        "http://0x7f000001:80",
        "http://a..b",
        "http://[fe80::1%25]",
        "http://" + "a" * 64,
    ],
)
def test_what_is_no_servers_url_is_the_users_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        ServerUrl.parse(text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "http://user:hunter2@example.com",
        "user:hunter2@example.com:80",
        "https://user:hunter2@example.com",
        "http://user:hunter2@example.com:99999",
        "http://user:hun/hunter2@example.com",
        "http://user:hun?hunter2@example.com",
        "http://user:hun\\hunter2@example.com",
        "http://user:hunter2@",
        "http://user:hunter2@exa mple.com",
        "foo://user:hunter2@example.com",
    ],
)
def test_a_password_in_a_url_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        ServerUrl.parse(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["http://example.com", "http://example.com:8080/x?y", "http://[::1]:8080"]
)
def test_a_url_is_shown_as_it_is_read(text: str) -> None:
    assert str(ServerUrl.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "header", "tls_name"),
    [
        ("https://example.com", "example.com", "example.com"),
        ("https://example.com.:8443", "example.com.:8443", "example.com"),
        ("http://пример.рф:58509", "xn--e1afmkfd.xn--p1ai:58509", "xn--e1afmkfd.xn--p1ai"),
        ("http://straße.example", "xn--strae-oqa.example", "xn--strae-oqa.example"),
        ("https://[fe80::1%25eth0]", "[fe80::1]", "fe80::1"),
        ("http://[::1]:8080", "[::1]:8080", "::1"),
    ],
)
def test_a_host_header_is_that_of_curl_and_a_certificate_has_the_name_alone(
    text: str, header: str, tls_name: str
) -> None:
    url = ServerUrl.parse(text)
    assert url.host_header == header
    assert name_for_tls(url.host) == tls_name


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("example.com.", "example.com."),
        ("пример.рф:58509", "xn--e1afmkfd.xn--p1ai:58509"),
        ("[::1]:80", "[::1]:80"),
        ("::1", "[::1]"),
        ("[fe80::1%eth0]:80", "[fe80::1]:80"),
        ("a_b", "a_b"),
    ],
)
def test_a_host_header_that_is_given_is_encoded_in_the_same_way(text: str, header: str) -> None:
    assert host_header(text) == header


@pytest.mark.parametrize("text", ["a:b", "a:99999", "[::1", "a/b", "a@b", "127.1", ":80"])
def test_what_is_no_host_with_a_port_is_no_host_header(text: str) -> None:
    with pytest.raises(UsageError, match="--hostname"):
        client(hostname=text)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("", "0.0.0.0"),
        ("[::]", "::"),
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("localhost", "localhost"),
    ],
)
def test_a_host_to_listen_on_may_have_brackets(text: str, host: str) -> None:
    assert ServerSettings(host=text).host == host


@pytest.mark.parametrize("text", ["[::1", "a b", "127.1", "http://x", "a:80"])
def test_what_is_no_host_to_listen_on_is_the_users_error(text: str) -> None:
    with pytest.raises(UsageError, match="--host: "):
        ServerSettings(host=text)


@pytest.mark.parametrize("text", ["a b", "a..b", ".a", "a:80"])
def test_what_is_no_name_cannot_be_asked_for_by_sni(text: str) -> None:
    with pytest.raises(UsageError, match="--sni: "):
        ClientTls(sni=text)


def test_remotes_that_do_not_fit_the_request_are_the_users_error() -> None:
    remotes = tuple(Remote.parse(f"{port}:example.com:80") for port in range(1, 3001))
    with pytest.raises(UsageError, match=r"^these 3000 remotes do not fit the packet"):
        attrs.evolve(client(), remotes=remotes)
    assert attrs.evolve(client(), remotes=remotes[:MAX_REMOTES]).remotes


# ---- headers


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("Name: value", ("Name", "value")),
        ("Name:value", ("Name", "value")),
        ("Name: \t value \t", ("Name", "value")),
        ("Name:", ("Name", "")),
        ("X-Time: 12:30", ("X-Time", "12:30")),
        ("X: a\tb", ("X", "a\tb")),
        ("X: café", ("X", "café")),
        ("Authorization: Basic dTpw", ("Authorization", "Basic dTpw")),
        ("hosts: x", ("hosts", "x")),
        ("!#$%&'*+.^_`|~-: x", ("!#$%&'*+.^_`|~-", "x")),
    ],
)
def test_a_header_is_a_name_and_a_value(text: str, header: tuple[str, str]) -> None:
    assert parse_header(text) == header


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no colon",
        ": value",
        "Na me: value",
        "Name : value",
        " Name: value",
        "Näme: value",
        "Na\nme: value",
        "Na\x00me: value",
        "Name(x): value",
        "Name: a\r\nHost: evil",
        "Name: a\nb",
        "Name: a\rb",
        "Name: a\x00b",
        "Name: a\x1bb",
        "Name: a\x0bb",
        "Name: a\x7fb",
        "Name: €",
        "Name: \ud800",
    ],
)
def test_what_is_no_header_is_the_users_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_header(text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "HOST",
        "Connection",
        "Upgrade",
        "Sec-WebSocket-Key",
        "sec-websocket-protocol",
        "Sec-WebSocket-Anything",
        "Content-Length",
        "Transfer-Encoding",
        "Expect",
    ],
)
def test_headers_that_make_the_upgrade_cannot_be_given(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        parse_header(f"{name}: x")


@pytest.mark.parametrize(
    "text", ["Authorization Basic hunter2", "Bearer hunter2:x", "Cookie: a=hunter2\x01", "hunter2"]
)
def test_a_value_is_never_shown(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_header(text)
    assert "hunter2" not in str(caught.value)


# ---- times


NAMES = {
    "COTUN_SSH_WAIT": "ssh_wait",
    "COTUN_SSH_TIMEOUT": "ssh_timeout",
    "COTUN_WS_TIMEOUT": "ws_timeout",
    "COTUN_CONFIG_TIMEOUT": "config_timeout",
    "COTUN_PING_TIMEOUT": "ping_timeout",
    "COTUN_DIAL_TIMEOUT": "dial_timeout",
}


def test_without_variables_the_times_are_gos() -> None:
    timings = Timings.from_environment({"COTUN_SSH_WAIT": "", "PATH": "/bin"})
    assert timings == Timings()
    assert (timings.ssh_wait, timings.ssh_timeout, timings.ws_timeout) == (35, 30, 45)
    assert (timings.config_timeout, timings.dial_timeout, timings.ping_timeout) == (10, 30, None)


@pytest.mark.parametrize(("variable", "name"), NAMES.items())
def test_each_time_has_a_variable(variable: str, name: str) -> None:
    timings = Timings.from_environment({variable: "1m30s"})
    assert getattr(timings, name) == 90
    for other in set(NAMES.values()) - {name}:
        assert getattr(timings, other) == getattr(Timings(), other)


def test_the_bytes_of_a_key_have_one_too() -> None:
    assert Timings.from_environment({"COTUN_REKEY_BYTES": "1048576"}).rekey_bytes == 1048576


def test_the_udp_sources_of_a_remote_have_one_too() -> None:
    assert Timings().udp_max_conns is None
    assert Timings.from_environment({"COTUN_UDP_MAX_CONNS": "7"}).udp_max_conns == 7


@pytest.mark.parametrize("text", ["0", "-1", "1s", "many"])
def test_a_number_of_sources_that_is_none_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match=r"^COTUN_UDP_MAX_CONNS: .*a number of 1 or more"):
        Timings.from_environment({"COTUN_UDP_MAX_CONNS": text})


@pytest.mark.parametrize("field", attrs.fields(Timings), ids=lambda field: field.name)
def test_each_variable_is_also_read_by_the_name_that_chisel_has_for_it(
    field: attrs.Attribute[object],
) -> None:
    text = "8" if "parse" in field.metadata else "8s"
    name = field.name.upper()
    timings = Timings.from_environment({f"CHISEL_{name}": text})
    assert timings == attrs.evolve(Timings(), **{field.name: 8})
    both = {f"CHISEL_{name}": "wrong", f"COTUN_{name}": text}
    assert Timings.from_environment(both) == timings  # ours counts
    empty = {f"CHISEL_{name}": text, f"COTUN_{name}": ""}
    assert Timings.from_environment(empty) == timings


def test_an_error_names_the_variable_that_was_read() -> None:
    with pytest.raises(UsageError, match=r"^CHISEL_SSH_WAIT: "):
        Timings.from_environment({"CHISEL_SSH_WAIT": "5"})


def test_the_variables_of_acme_have_the_names_of_chisel_too() -> None:
    names = {"LE_DIRECTORY": "https://ca", "LE_CA": "/ca", "LE_EMAIL": "a@b.c", "LE_CACHE": "/x"}
    theirs = {f"CHISEL_{name}": text for name, text in names.items()}
    chosen = ServerAcme.choose(["a.example"], theirs, clients=None)
    assert (chosen.directory, chosen.ca, chosen.email, chosen.cache) == tuple(names.values())
    mixed = {**theirs, "COTUN_LE_CACHE": "-", "COTUN_LE_EMAIL": "ours@b.c"}
    chosen = ServerAcme.choose(["a.example"], mixed, clients=None)
    assert (chosen.ca, chosen.email, chosen.cache) == ("/ca", "ours@b.c", None)


@pytest.mark.parametrize("variable", NAMES)
@pytest.mark.parametrize("text", ["5", "-5s", "5 s", "five", "\x1b[31m5s"])
def test_a_variable_that_is_no_duration_is_named(variable: str, text: str) -> None:
    with pytest.raises(UsageError, match=variable) as caught:
        Timings.from_environment({variable: text})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "1k", "8_0", "٨", "1" * 19, "\x1b"])
def test_what_is_no_number_of_bytes_is_the_users_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_bytes(text)
    assert str(caught.value).isprintable()


# ---- server and client


@pytest.mark.parametrize("port", [0, 1, 65535])
def test_a_server_takes_every_port(port: int) -> None:
    assert ServerSettings(port=port).port == port


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_number_that_is_no_port_is_the_users_error(port: int) -> None:
    with pytest.raises(UsageError, match=str(port)):
        ServerSettings(port=port)


def client(**settings: object) -> ClientSettings:
    """Return settings of a client, with these among them."""
    return ClientSettings(
        server=ServerUrl.parse("http://example.com"),
        remotes=(Remote.parse("3000"),),
        **settings,  # type: ignore[arg-type]
    )


def test_a_fingerprint_has_to_look_like_one() -> None:
    assert client(fingerprint=FINGERPRINT).fingerprint == FINGERPRINT
    assert client().fingerprint is None
    for text in ("", "ed:f2:cf:3c", FINGERPRINT[:-1]):
        with pytest.raises(UsageError):
            client(fingerprint=text)


@pytest.mark.parametrize(
    "text", [None, "", "example.com", "example.com:8080", "[::1]:80", "münchen.example", "a_b"]
)
def test_a_hostname_is_what_a_host_header_can_be(text: str | None) -> None:
    assert client(hostname=text).hostname == text


@pytest.mark.parametrize("text", ["a b", "a\r\nX: y", "a\x00", "a..b", "x" * 64, "\ud800", "a\x7f"])
def test_a_hostname_that_no_header_can_hold_is_the_users_error(text: str) -> None:
    # It would come to nothing but at the first connection, and look like the server's fault.
    with pytest.raises(UsageError) as caught:
        client(hostname=text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("count", [1, 2, 16, "16"])
def test_a_client_can_have_up_to_16_connections(count: int | str) -> None:
    settings = ClientSettings.from_options("a", remotes="3000", connections=count)
    assert settings.connections == int(count)


@pytest.mark.parametrize("count", [0, -1, 17, 10**9, "0", "many", True, 1.5])
def test_another_number_of_connections_is_the_users_error(count: Any) -> None:
    with pytest.raises(UsageError, match="connections"):
        ClientSettings.from_options("a", remotes="3000", connections=count)


def test_a_protocol_says_what_to_offer_and_in_which_order() -> None:
    assert client().dialects == (CHISEL, COTUN)
    assert client(protocol="chisel").dialects == (CHISEL,)
    assert client(protocol="cotun").dialects == (COTUN,)


def test_settings_never_show_a_secret() -> None:
    auth = Credentials("alice", "hunter2")
    headers = (("Authorization", "Bearer hunter2"), ("Cookie", "hunter2"))
    for settings in (ServerSettings(auth=auth), client(auth=auth, headers=headers)):
        assert "hunter2" not in repr(settings)
        assert "hunter2" not in str(settings)
        assert "alice" in repr(settings)


# ---- the options of a client, which a program and the command line give


def test_each_option_of_a_client_is_there_in_all_three_places() -> None:
    by_name = {"tls_ca": "tls", "tls_cert": "tls", "tls_key": "tls", "tls_skip_verify": "tls"}
    by_name |= {"sni": "tls", "auth_from": "auth", "proxy_from_env": "proxy"}
    fields = {field.name for field in attrs.fields(ClientSettings)}
    options = set(ClientOptions.__annotations__)
    assert {by_name.get(name, name) for name in options} == fields - {"server", "alternatives"}
    # On the command line, some have a singular name, timings are the environment's, and the Trio
    # run is its own.
    singular = {"remotes": "remote", "headers": "header"}
    of_a_process = {"first", "remotes", "server", "config", "pid", "log_format"}
    of_a_process |= {"verbose", "trace", "quiet"}
    of_the_environment = {"admin_socket", "timings", "fast_loop"}
    parameters = set(inspect.signature(command).parameters) - of_a_process
    assert {singular.get(name, name) for name in options - of_the_environment} == parameters


def test_options_that_are_not_given_have_the_defaults_of_the_fields() -> None:
    settings = ClientSettings.from_options("http://a", remotes=["80"])
    expected = ClientSettings(server=ServerUrl.parse("http://a"), remotes=(Remote.parse("80"),))
    assert settings == expected


def test_an_option_that_there_is_not_is_a_programmers_error() -> None:
    with pytest.raises(TypeError, match="colour"):
        ClientSettings.from_options("http://a", colour="red")  # type: ignore[call-arg]


# ---- warnings about a client's settings


@pytest.mark.parametrize(
    ("url", "options", "warned"),
    [
        ("http://a", {"auth": "u:p"}, True),
        ("ws://a", {"auth": "u:p"}, True),
        (["https://a", "http://b"], {"auth": "u:p"}, True),
        ("https://a", {"auth": "u:p"}, False),
        ("http://a", {}, False),
        ("http://a", {"auth": "u:p", "fingerprint": FINGERPRINT}, False),
    ],
)
def test_a_password_over_http_without_a_fingerprint_is_warned_of(
    url: Any, options: Any, warned: bool
) -> None:
    warnings = ClientSettings.from_options(url, **options).warnings
    assert len(warnings) == warned
    for line in warnings:
        assert "can pose as the server and get the password: give --fingerprint" in line
        assert "u:p" not in line


@pytest.mark.parametrize(
    "options",
    [
        {"tls_ca": "a"},
        {"tls_skip_verify": True},
        {"sni": "a"},
        {"tls_cert": "a", "tls_key": "b"},
    ],
    ids=str,
)
def test_options_for_tls_are_ignored_with_a_warning_where_there_is_none(options: Any) -> None:
    (line,) = ClientSettings.from_options("http://a", **options).warnings
    assert line.startswith("--tls-… and --sni are ignored")
    assert not ClientSettings.from_options(["http://a", "https://b"], **options).warnings


def test_half_of_a_certificate_and_its_key_is_an_error_where_there_is_tls_only() -> None:
    for option in ("tls_cert", "tls_key"):
        half: Any = {option: "a"}
        assert len(ClientSettings.from_options("http://a", **half).warnings) == 1
        with pytest.raises(UsageError, match=f"--{option.replace('_', '-')} needs --tls-"):
            ClientSettings.from_options(["http://a", "https://b"], **half)
