"""Tunnels through proxies: of every kind, with TLS at either place, well-behaved and otherwise."""

from __future__ import annotations

import ssl
import sys
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
import trio.testing

from cotun_trio.client.client import Client
from cotun_trio.errors import GaveUp, UsageError
from cotun_trio.net.http_proxy import SKIP_TIMEOUT
from cotun_trio.protocol.proxy_url import ProxyUrl
from cotun_trio.server import certificates
from cotun_trio.settings import ClientTls, ServerTls, Timings
from tests.support.certificates import Authority
from tests.support.leaks import nothing_left
from tests.support.proxies import Proxy, running_proxy
from tests.support.targets import (
    LOOPBACK,
    MiB,
    background,
    connect,
    echo,
    exchange,
    listening,
    random_bytes,
    refused_address,
    sha256,
)
from tests.support.tunnel import WatchedClient, client_settings, running_server
from tests.support.watching import nothing_watched

if TYPE_CHECKING:
    from pathlib import Path

    from cotun_trio.settings import ClientSettings

DATA = random_bytes(MiB)


def through(
    proxy: Proxy, server: str, *remotes: str, scheme: str = "http", login: str = "", **more: Any
) -> ClientSettings:
    """Return settings of a client that reaches `server` through `proxy`, and tries once."""
    url = ProxyUrl.parse(f"{scheme}://{login}{proxy.address}")
    settings = client_settings(server, *remotes, proxy=url, max_retry_count=0, **more)
    assert settings.proxy is not None
    return settings


async def refusal(settings: ClientSettings) -> str:
    """Return why a client cannot connect."""
    with pytest.raises(GaveUp) as caught:
        await Client(settings).run()
    return str(caught.value)


async def carries(settings: ClientSettings) -> bool:
    """Return whether a megabyte goes through the client's first remote and comes back."""
    client = WatchedClient(settings)
    async with background() as nursery:
        await nursery.start(client.run)
        await client.opened()
        async with await connect(client.addresses[0]) as stream:
            return await exchange(stream, DATA) == (len(DATA), sha256(DATA))


@pytest.mark.parametrize("scheme", ["http", "socks", "socks5", "socks5h"])
@pytest.mark.parametrize("login", ["", "alice:secret@"])
@pytest.mark.parametrize("dribble", [False, True])
async def test_a_tunnel_goes_through_a_proxy(scheme: str, login: str, dribble: bool) -> None:
    user, _, password = login.rstrip("@").partition(":")
    async with (
        listening(echo) as target,
        running_server() as server,
        running_proxy(
            socks=scheme != "http", user=user, password=password, dribble=dribble
        ) as proxy,
    ):
        remote = f"{LOOPBACK}:0:{target}"
        settings = through(proxy, server.addresses[0], remote, scheme=scheme, login=login)
        assert await carries(settings)
        # By HTTP, it is asked for the login first.
        assert proxy.asked == [server.addresses[0]] * (1 + (scheme == "http" and bool(login)))


@pytest.mark.parametrize("digest", ["", "MD5", "SHA-256"])
@pytest.mark.parametrize(
    ("behaviour", "connections"),
    [
        ({}, 2),
        ({"page": b""}, 1),
        ({"page": b"x" * 1000, "dribble": True}, 1),
        ({"page": b"x" * 100_000}, 2),  # too long to be skipped
        ({"page": b"x", "gone": True}, 2),
    ],
    ids=["closed", "no page", "a page", "a long page", "closed behind a page"],
)
async def test_a_login_is_on_the_same_connection_if_that_stays_open(
    digest: str, behaviour: dict[str, Any], connections: int
) -> None:
    async with (
        nothing_left(),
        listening(echo) as target,
        running_server() as server,
        running_proxy(user="alice", password="secret", digest=digest, **behaviour) as proxy,
    ):
        remote = f"{LOOPBACK}:0:{target}"
        settings = through(proxy, server.addresses[0], remote, login="alice:secret@")
        assert await carries(settings)
        assert proxy.connections == connections
        assert b"Proxy-Authorization" not in proxy.heads[0]


@pytest.mark.parametrize(("stale", "works"), [(1, True), (2, False)])
@pytest.mark.parametrize("page", [None, b"page"])
async def test_a_nonce_that_is_outdated_is_renewed_once(
    stale: int, works: bool, page: bytes | None
) -> None:
    async with (
        running_server() as server,
        running_proxy(
            user="alice", password="secret", digest="SHA-256", stale=stale, page=page
        ) as proxy,
    ):
        settings = through(proxy, server.addresses[0], login="alice:secret@")
        if works:
            client = WatchedClient(settings)
            async with background() as nursery:
                await nursery.start(client.run)
                await client.opened()
        else:
            said = await refusal(settings)
            assert "it does not take the password (HTTP 407), by Digest (SHA-256)" in said
        assert len(proxy.asked) == 3


async def test_a_page_that_does_not_end_is_not_waited_for(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    challenge = b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 9\r\n\r\npage"

    async def serve(stream: trio.SocketStream) -> None:
        head = await stream.receive_some()
        heads.append(head)
        if b"Proxy-Authorization" in head:
            await stream.send_all(b"HTTP/1.1 418 I'm a teapot\r\n\r\n")
        else:
            await stream.send_all(challenge)
            await trio.sleep_forever()

    heads: list[bytes] = []
    async with listening(serve) as address:
        started = trio.current_time()
        proxy = Proxy(address=address)
        said = await refusal(through(proxy, "http://example.com", login="alice:secret@"))
        assert "418" in said
        assert trio.current_time() - started == pytest.approx(SKIP_TIMEOUT)
    assert len(heads) == 2


@pytest.mark.parametrize("proxy_tls", [False, True])
@pytest.mark.parametrize("server_tls", [False, True])
async def test_tls_can_be_with_the_server_with_the_proxy_or_with_both(
    proxy_tls: bool, server_tls: bool, tmp_path: Path
) -> None:
    ca = Authority(tmp_path / "ca")
    cert, key = ca.issue("localhost", LOOPBACK, file="server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    tls = ServerTls(cert=cert, key=key) if server_tls else None
    with nothing_watched(certificates):
        async with (
            listening(echo) as target,
            running_server(tls=tls) as server,
            running_proxy(tls=context if proxy_tls else None) as proxy,
        ):
            scheme = "https" if server_tls else "http"
            settings = through(
                proxy,
                f"{scheme}://{server.addresses[0]}",
                f"{LOOPBACK}:0:{target}",
                scheme="https" if proxy_tls else "http",
                tls=ClientTls(ca=ca.path) if server_tls or proxy_tls else ClientTls(),
            )
            assert await carries(settings)
            assert proxy.asked == [server.addresses[0]]


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
async def test_names_are_looked_up_by_the_proxy(scheme: str) -> None:
    async with running_proxy(socks=scheme != "http", answer=b"\x05\xff") as proxy:
        await refusal(through(proxy, "http://nowhere.invalid:80", scheme=scheme))
    if scheme == "http":
        assert proxy.asked == ["nowhere.invalid:80"]


async def test_connect_is_asked_for_as_http_says() -> None:
    async with running_proxy(user="alice", password="right") as proxy:
        await refusal(through(proxy, "http://[::1]:8080", login="ali%20ce:s%3ae@"))
    first, second = proxy.heads
    for head in (first, second):
        assert head.startswith(b"CONNECT [::1]:8080 HTTP/1.1\r\nHost: [::1]:8080\r\n")
        assert b"\r\nUser-Agent: cotun-trio/" in head
    assert b"Proxy-Authorization" not in first
    assert b"\r\nProxy-Authorization: Basic YWxpIGNlOnM6ZQ==\r\n" in second


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
async def test_what_comes_right_behind_the_answer_is_not_lost(scheme: str) -> None:
    early = b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n"
    async with (
        running_server() as server,
        running_proxy(socks=scheme != "http", early=early) as proxy,
    ):
        said = await refusal(through(proxy, server.addresses[0], scheme=scheme))
    assert "the server answered HTTP 418" in said


@pytest.mark.parametrize(
    ("scheme", "behaviour", "error"),
    [
        ("http", {"answer": b"HTTP/1.1 403 Forbidden\x1b\r\n\r\n"}, r"403 Forbidden\x1b"),
        ("http", {"answer": b"HTTP/1.1 403 Forbidden\r\n\r\n"}, "it answered 403 Forbidden"),
        ("http", {"answer": b"HTTP/1.1 502 \r\n\r\n"}, "it answered 502"),
        ("http", {"user": "a", "password": "b"}, "a user and a password (HTTP 407), by Basic"),
        ("http", {"user": "a", "digest": "MD5"}, "a password (HTTP 407), by Digest (MD5)"),
        ("http", {"answer": b"HTTP/1.1 503 \r\nRetry-After: 9\r\n\r\n"}, "try again after 9s"),
        (
            "http",
            {"answer": b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\n\r\n"},
            "it wants a login by NTLM (HTTP 407): only Basic and Digest are known here: run",
        ),
        ("http", {"answer": b"SSH-2.0-x\r\n"}, "its answer is no HTTP: it speaks SSH (SSH-2.0-x)"),
        ("http", {"answer": b"\x15\x03\x01\0\2\2\x46"}, "it speaks TLS: write https://"),
        ("http", {"answer": b"rubbish\r\n\r\n"}, "its answer is no HTTP: "),
        ("http", {"answer": b"x" * 10_000}, "its answer is no HTTP: "),
        ("http", {"answer": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000}, "its answer is no HTTP"),
        ("http", {"answer": b"HTTP/1.1 200 OK\r\n"}, "it closed the connection"),
        ("socks5h", {"user": "a", "password": "b"}, "auth"),
        ("socks5h", {"answer": b"\x04\x00"}, "version"),
        ("socks5h", {"answer": b"\x05"}, "closed"),
    ],
)
async def test_what_is_wrong_with_a_proxy_is_said_with_its_name(
    scheme: str, behaviour: dict[str, Any], error: str
) -> None:
    async with nothing_left(), running_proxy(socks=scheme != "http", **behaviour) as proxy:
        said = await refusal(through(proxy, "http://example.com", scheme=scheme))
    assert f"proxy {scheme}://{proxy.address}: " in said
    assert error.lower() in said.lower()
    assert said.isprintable()


@pytest.mark.parametrize(
    ("scheme", "url", "asked"),
    [
        ("http", "http://пример.рф:58509", "xn--e1afmkfd.xn--p1ai:58509"),
        ("socks5h", "http://пример.рф:58509", "xn--e1afmkfd.xn--p1ai:58509"),
        ("http", "http://[fe80::1%25eth0]:8080", "[fe80::1]:8080"),
    ],
)
async def test_a_proxy_is_asked_for_a_host_in_ascii_and_without_its_zone(
    scheme: str, url: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(address: str) -> trio.SocketStream:
        raise OSError(address)

    socks = scheme != "http"
    monkeypatch.setattr("tests.support.proxies.connect", unreachable)
    async with running_proxy(socks=socks, answer=b"" if socks else b"no") as proxy:
        await refusal(through(proxy, url, scheme=scheme))
        assert proxy.asked[0] == asked


@pytest.mark.parametrize(
    ("scheme", "digest"), [("http", ""), ("http", "MD5"), ("http", "SHA-256"), ("socks5h", "")]
)
async def test_a_wrong_password_is_said_and_not_shown(scheme: str, digest: str) -> None:
    async with running_proxy(
        socks=scheme != "http", user="alice", password="right", digest=digest
    ) as proxy:
        said = await refusal(
            through(proxy, "http://example.com", scheme=scheme, login="alice:hunter2@")
        )
    assert "password" in said or "auth" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("scheme", ["http", "https", "socks5h"])
async def test_a_proxy_that_is_not_there_is_said_so(scheme: str) -> None:
    proxy = Proxy(address=refused_address())
    said = await refusal(through(proxy, "http://example.com", scheme=scheme))
    assert f"proxy {scheme}://{proxy.address}: " in said
    assert "refused" in said


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
async def test_a_proxy_that_never_answers_is_given_up_in_time(
    scheme: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with nothing_left(), running_proxy(socks=scheme != "http", stall=True) as proxy:
        before = trio.current_time()
        said = await refusal(
            through(proxy, "http://example.com", scheme=scheme, timings=Timings(dial_timeout=7.0))
        )
        assert trio.current_time() - before == pytest.approx(7)
    assert "no answer in 7 s" in said


async def test_a_target_that_socks_cannot_reach_is_said_so() -> None:
    async with running_proxy(socks=True) as proxy:
        said = await refusal(through(proxy, f"http://{refused_address()}", scheme="socks5h"))
    assert "refused" in said


async def test_a_proxys_certificate_is_checked(tmp_path: Path) -> None:
    ca = Authority(tmp_path / "ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*ca.issue("other.example"))
    async with running_proxy(tls=context) as proxy:
        settings = through(proxy, "http://example.com", scheme="https", tls=ClientTls(ca=ca.path))
        assert "the server's certificate is for another" in await refusal(settings)


async def test_without_the_library_the_error_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "python_socks", None)
    proxy = Proxy(address=refused_address())
    settings = attrs.evolve(
        through(proxy, "http://example.com", scheme="socks5h"), max_retry_count=None
    )
    with pytest.raises(UsageError, match="pip install python-socks"):
        await Client(settings).run()


@pytest.mark.parametrize(
    ("proxy", "tls", "is_ignored"),
    [
        ("http://b", ClientTls(ca="x"), True),
        ("https://b", ClientTls(sni="x"), True),
        ("https://b", ClientTls(ca="x"), False),
        ("http://b", ClientTls(), False),
    ],
)
def test_tls_options_are_a_warning_where_there_is_no_tls(
    proxy: str, tls: ClientTls, is_ignored: bool
) -> None:
    settings = client_settings("http://a", proxy=ProxyUrl.parse(proxy), tls=tls)
    assert any("are ignored" in line for line in settings.warnings) is is_ignored
