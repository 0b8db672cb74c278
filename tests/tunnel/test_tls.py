"""Tunnels over TLS: what is carried, who is let in, and what users read when it fails."""

from __future__ import annotations

import contextlib
import shutil
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from cotun_trio.client.client import Client
from cotun_trio.errors import GaveUp, UsageError
from cotun_trio.net.tls_files import client_context, server_context
from cotun_trio.protocol.remote import Remote
from cotun_trio.server import certificates
from cotun_trio.settings import ClientSettings, ClientTls, ServerTls, ServerUrl, Timings
from tests.support.certificates import Authority
from tests.support.log_watch import watch_logs
from tests.support.names import know
from tests.support.peer import upgrade_request
from tests.support.targets import (
    LOOPBACK,
    MiB,
    connect,
    echo,
    echoes,
    exchange,
    listening,
    random_bytes,
    receive_all,
    sha256,
    split_address,
)
from tests.support.tunnel import WatchedClient, background, client_settings, running_server
from tests.support.watching import nothing_watched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cotun_trio.server.server import Server


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "stranger")


@contextlib.asynccontextmanager
async def tls_server(
    ca: Authority, *names: str, clients: Authority | None = None, **settings: Any
) -> AsyncIterator[Server]:
    """Run a server with a certificate of `ca`, which wants some of `clients`.

    It reads its files when it is told to.
    """
    cert, key = ca.issue(*(names or (LOOPBACK,)), file="server")
    tls = ServerTls(cert=cert, key=key, ca=clients and clients.path)
    with nothing_watched(certificates):
        async with running_server(tls=tls, **settings) as server:
            yield server


def tls_client(server: Server, *remotes: str, host: str = LOOPBACK, **tls: Any) -> ClientSettings:
    """Return settings of a client."""
    port = split_address(server.addresses[0])[1]
    return ClientSettings(
        server=ServerUrl.parse(f"https://{host}:{port}"),
        remotes=tuple(map(Remote.parse, remotes)),
        tls=ClientTls(**tls),
        max_retry_count=0,
    )


@contextlib.asynccontextmanager
async def running(settings: ClientSettings) -> AsyncIterator[WatchedClient]:
    client = WatchedClient(settings)
    async with background() as nursery:
        await nursery.start(client.run)
        await client.opened()
        yield client


# ---- what is carried


async def test_a_tunnel_over_tls_carries_bytes_both_ways(ca: Authority) -> None:
    data = random_bytes(8 * MiB)
    async with (
        listening(echo) as target,
        tls_server(ca) as server,
        running(tls_client(server, f"{LOOPBACK}:0:{target}", ca=ca.path)) as client,
        await connect(client.addresses[0]) as stream,
    ):
        assert await exchange(stream, data) == (len(data), sha256(data))


async def test_keys_are_renewed_over_tls_with_data_in_flight(ca: Authority) -> None:
    data = random_bytes(4 * MiB)
    timings = Timings(rekey_bytes=MiB)
    async with (
        listening(echo) as target,
        tls_server(ca, timings=timings) as server,
        running(tls_client(server, f"{LOOPBACK}:0:{target}", ca=ca.path)) as client,
        await connect(client.addresses[0]) as stream,
    ):
        assert await exchange(stream, data) == (len(data), sha256(data))


async def test_ordinary_requests_are_answered_over_tls(ca: Authority) -> None:
    context = ssl.create_default_context(cafile=ca.path)
    async with tls_server(ca, "localhost") as server:
        stream = trio.SSLStream(
            await connect(server.addresses[0]),
            context,
            server_hostname="localhost",
            https_compatible=True,
        )
        async with stream.transport_stream:
            await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await receive_all(stream)).endswith(b"\r\n\r\nOK\n")


async def test_only_http_1_is_offered(ca: Authority) -> None:
    context = ssl.create_default_context(cafile=ca.path)
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with tls_server(ca, "localhost") as server:
        stream = trio.SSLStream(
            await connect(server.addresses[0]), context, server_hostname="localhost"
        )
        async with stream.transport_stream:
            await stream.do_handshake()
            assert stream.selected_alpn_protocol() == "http/1.1"
            assert stream.version() == "TLSv1.3"


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_old_versions_are_not_spoken(ca: Authority, version: str) -> None:
    cert, key = ca.issue("x")
    for context in (
        server_context(ServerTls(cert=cert, key=key)),
        client_context(ClientTls()),
        client_context(ClientTls(ca=ca.path)),
        client_context(ClientTls(skip_verify=True)),
    ):
        assert context.minimum_version > ssl.TLSVersion[version]


# ---- the server's certificate


async def refusal(settings: ClientSettings) -> str:
    """Return why a client cannot connect."""
    with pytest.raises(GaveUp) as caught:
        await Client(settings).run()
    return str(caught.value)


async def test_a_certificate_that_does_not_fit_is_refused_in_a_users_words(
    ca: Authority, stranger: Authority
) -> None:
    async with tls_server(ca, "example.com") as server:
        reason = await refusal(tls_client(server, ca=ca.path))
        assert "the server's certificate is for another" in reason
        assert reason.endswith(": it is for example.com")
        settings = tls_client(server, ca=stranger.path, sni="example.com")
        reason = await refusal(settings)
        assert "the server's certificate is from an unknown issuer" in reason
        advice = ": if you trust it, give its certificate, PEM, with --tls-ca FILE"
        assert reason.endswith(advice)
        assert (await refusal(tls_client(server))).endswith(advice)


@pytest.mark.parametrize(
    ("dates", "seen", "said"),
    [
        ("expired", r"has expired on 2020-01-01 00:00 UTC", "has expired; the clock here says 20"),
        ("future", r"is not valid before 2100-01-01 00:00 UTC", "is not valid yet; the clock here"),
    ],
)
async def test_a_server_with_a_certificate_outside_its_dates_serves_and_both_ends_say_so(
    ca: Authority, dates: str, seen: str, said: str
) -> None:
    cert, key = ca.issue(LOOPBACK, file="server", **{dates: True})
    tls = ServerTls(cert=cert, key=key)
    async with watch_logs() as log, running_server(tls=tls) as server:
        await log.wait_for(f"^the certificate {cert} {seen} .*renew it, or set the clock", "server")
        reason = await refusal(tls_client(server, ca=ca.path))
        assert f"TLS: the server's certificate {said}" in reason
        async with running(tls_client(server, skip_verify=True)):
            assert len(server.sessions) == 1


async def test_a_certificate_outside_its_dates_is_used_after_a_reload_too(ca: Authority) -> None:
    async with tls_server(ca, "old.example") as server, watch_logs() as log:
        ca.issue("new.example", file="server", expired=True)
        server.reload()
        await log.wait_for("the certificate .* has expired on 2020-01-01")
        reason = await refusal(tls_client(server, ca=ca.path, sni="new.example"))
        assert "has expired" in reason
        assert not log.find("stays as it was")


async def test_a_clients_own_old_certificate_is_a_warning(ca: Authority) -> None:
    cert, key = ca.issue("client", file="client", expired=True)
    async with (
        watch_logs() as log,
        tls_server(ca) as server,
        running(tls_client(server, ca=ca.path, cert=cert, key=key)),
    ):
        await log.wait_for(f"the certificate {cert} has expired on 2020-01-01", "client")


def test_old_authorities_are_one_warning_with_their_number(ca: Authority, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    old = [Path(ca.issue(str(n), file=str(n), expired=True)[0]).read_text() for n in range(3)]
    bundle.write_text("".join((*old, Path(ca.path).read_text())))
    said: list[str] = []
    client_context(ClientTls(ca=str(bundle)), said.append)
    cert, key = ca.issue("a", file="a")
    server_context(ServerTls(cert=cert, key=key, ca=str(bundle)), said.append)
    assert len(said) == 2
    for line in said:
        assert line.startswith(f"the authority in {bundle} has expired on 2020-01-01")
        assert ", and 2 more are not valid" in line


# ---- an authority that another one has certified


async def test_the_issuing_authority_alone_is_enough_at_both_ends(
    ca: Authority, tmp_path: Path
) -> None:
    issuing = ca.intermediate(tmp_path / "issuing")
    cert, key = issuing.issue("client", file="client")
    async with (
        tls_server(issuing, clients=issuing) as server,
        running(tls_client(server, ca=issuing.path, cert=cert, key=key)),
    ):
        assert len(server.sessions) == 1


async def test_another_authority_below_the_same_root_is_not_enough(
    ca: Authority, tmp_path: Path
) -> None:
    one, other = (ca.intermediate(tmp_path / name) for name in ("one", "other"))
    async with tls_server(one) as server:
        assert "unknown issuer" in await refusal(tls_client(server, ca=other.path))


async def test_the_name_to_ask_for_can_be_given(ca: Authority) -> None:
    async with (
        tls_server(ca, "example.com") as server,
        running(tls_client(server, ca=ca.path, sni="example.com")),
    ):
        assert len(server.sessions) == 1


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("example.com.", "example.com"),
        ("пример.рф", "xn--e1afmkfd.xn--p1ai"),
        ("пример.рф.", "xn--e1afmkfd.xn--p1ai"),
    ],
)
@pytest.mark.parametrize("by_sni", [False, True])
async def test_a_name_is_the_certificates_however_it_is_written(
    ca: Authority, written: str, name: str, by_sni: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, **{name: [LOOPBACK], f"{name}.": [LOOPBACK]})
    host, sni = (LOOPBACK, written) if by_sni else (written, None)
    async with (
        tls_server(ca, name) as server,
        running(tls_client(server, host=host, ca=ca.path, sni=sni)),
    ):
        assert len(server.sessions) == 1


async def test_any_certificate_will_do_where_none_is_checked(ca: Authority) -> None:
    async with (
        tls_server(ca, "example.com") as server,
        running(tls_client(server, skip_verify=True)),
    ):
        assert len(server.sessions) == 1


async def test_a_server_without_tls_is_said_to_have_none() -> None:
    async with running_server() as server:
        said = await refusal(tls_client(server))
        assert "TLS: the server does not speak TLS: write http:// in its URL" in said


async def test_a_server_with_tls_is_said_to_want_it(ca: Authority) -> None:
    async with tls_server(ca) as server:
        said = await refusal(client_settings(server.addresses[0], max_retry_count=0))
        assert "it wants TLS: write https:// in its URL" in said


async def test_garbage_without_tls_is_no_http(ca: Authority) -> None:
    async with tls_server(ca) as server:
        for garbage in (b"SSH-2.0-x\r\n", b"\0" * 100, b"\x80\x2e"):
            async with await connect(server.addresses[0]) as stream:
                await stream.send_all(garbage)
                await stream.send_eof()
                assert b"HTTP" not in await receive_all(stream)


async def test_a_client_without_tls_hurts_nobody(ca: Authority) -> None:
    async with tls_server(ca) as server, watch_logs() as log:
        async with await connect(server.addresses[0]) as stream:
            await stream.send_all(upgrade_request())
            await receive_all(stream)
        await log.wait_for("TLS: the client speaks HTTP without TLS")
        async with await connect(server.addresses[0]) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = await receive_all(stream)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.endswith(b"Plain HTTP was sent to a TLS port: write https:// in the URL.\n")
        async with running(tls_client(server, ca=ca.path)):
            assert len(server.sessions) == 1


async def test_a_handshake_that_does_not_end_is_cut(
    ca: Authority, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with tls_server(ca) as server, await connect(server.addresses[0]) as stream:
        before = trio.current_time()
        await stream.send_all(b"\x16\x03\x01")
        assert await receive_all(stream) == b""
        assert trio.current_time() - before == pytest.approx(10)


# ---- clients' certificates


async def test_a_client_with_a_certificate_of_the_authority_gets_in(
    ca: Authority, stranger: Authority
) -> None:
    cert, key = stranger.issue("client", file="client")
    async with (
        listening(echo) as target,
        tls_server(ca, clients=stranger) as server,
        running(
            tls_client(server, f"{LOOPBACK}:0:{target}", ca=ca.path, cert=cert, key=key)
        ) as client,
        await connect(client.addresses[0]) as stream,
    ):
        assert await echoes(stream)


@pytest.mark.parametrize("what", ["none", "expired", "of a stranger"])
async def test_others_are_refused_before_any_http_is_read(
    ca: Authority, stranger: Authority, what: str
) -> None:
    own: dict[str, str] = {}
    if what != "none":
        issuer = stranger if what == "of a stranger" else ca
        own["cert"], own["key"] = issuer.issue("x", file="client", expired=what == "expired")
    async with tls_server(ca, clients=ca) as server, watch_logs() as log:
        said = await refusal(tls_client(server, ca=ca.path, **own))
        assert "TLS: the server" in said
        await log.wait_for("TLS: the client('s certificate| shows no certificate)", "server")
        assert not log.find("session=|GET ")


# ---- the files


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("missing", "cannot read .*none.pem: No such file"),
        ("another key", "does not belong to the certificate"),
        ("no certificate", "holds no PEM certificate"),
        ("no key", "are not a certificate and its key"),
        ("ca", "holds no PEM certificates"),
        ("ca missing", "cannot read .*none.pem: No such file"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    ca: Authority, tmp_path: Path, what: str, error: str
) -> None:
    cert, key = ca.issue("a", file="a")
    none, rubbish = str(tmp_path / "none.pem"), tmp_path / "rubbish"
    rubbish.write_text("rubbish")
    if what == "missing":
        cert = none
    elif what == "another key":
        key = ca.issue("b", file="b")[1]
    elif what == "no certificate":
        cert = str(rubbish)
    elif what == "no key":
        key = str(rubbish)
    authorities = {"ca": str(rubbish), "ca missing": none}.get(what)
    with pytest.raises(UsageError, match=error):
        server_context(ServerTls(cert=cert, key=key, ca=authorities))


def test_a_directory_of_authorities_is_all_of_them(
    ca: Authority, stranger: Authority, tmp_path: Path
) -> None:
    directory = tmp_path / "authorities"
    directory.mkdir()
    for number, authority in enumerate((ca, stranger)):
        shutil.copy(authority.path, directory / f"{number}.pem")
    (directory / "README").write_text("authorities")
    context = client_context(ClientTls(ca=str(directory)))
    assert len(context.get_ca_certs()) == 2
    (directory / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no PEM certificates"):
        client_context(ClientTls(ca=str(directory / "empty")))


async def test_a_new_certificate_is_used_for_new_connections_and_a_bad_one_is_not(
    ca: Authority,
) -> None:
    async with (
        listening(echo) as target,
        tls_server(ca, "old.example") as server,
        running(
            tls_client(server, f"{LOOPBACK}:0:{target}", ca=ca.path, sni="old.example")
        ) as client,
        await connect(client.addresses[0]) as stream,
    ):
        for name, bad in (("new.example", False), ("bad.example", True)):
            async with watch_logs() as log:
                _cert, key = ca.issue(name, file="server")
                if bad:
                    Path(key).write_text("rubbish")
                server.reload()
                await log.wait_for("stays as it was$" if bad else "TLS certificate read again")
            async with running(tls_client(server, ca=ca.path, sni="new.example")):
                pass
            assert await echoes(stream)


async def test_a_new_certificate_is_noticed_by_itself(ca: Authority) -> None:
    cert, key = ca.issue("old.example", file="server")
    tls = ServerTls(cert=cert, key=key)
    async with running_server(tls=tls) as server, watch_logs() as log:
        ca.issue("new.example", file="server")
        await log.wait_for("TLS certificate read again")
        async with running(tls_client(server, ca=ca.path, sni="new.example")):
            assert len(server.sessions) == 1


async def test_without_the_means_to_watch_it_a_signal_has_it_read_again(
    ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles._rust_notify", None)
    cert, key = ca.issue("old.example", file="server")
    async with watch_logs() as log, running_server(tls=ServerTls(cert=cert, key=key)) as server:
        await log.wait_for("takes watchfiles.*a SIGHUP has the certificate read again")
        ca.issue("new.example", file="server")
        server.reload()
        await log.wait_for("TLS certificate read again")
        async with running(tls_client(server, ca=ca.path, sni="new.example")):
            assert len(server.sessions) == 1


# ---- the path


@pytest.mark.parametrize("path", ["/tunnel", "/tunnel?key=x"])
async def test_a_server_with_a_path_is_a_tunnel_there_and_nowhere_else(path: str) -> None:
    async with running_server(path="/tunnel") as server:
        for where, status in ((path, b"101"), ("/", b"404"), ("/tunnel/", b"404")):
            async with await connect(server.addresses[0]) as stream:
                await stream.send_all(upgrade_request().replace(b" / ", f" {where} ".encode(), 1))
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 " + status)
