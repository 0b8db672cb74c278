"""A doctor's way to servers of ours, and to others that fail at each step."""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.access.credentials import Credentials
from cotun_trio.access.host_keys import generate_host_key
from cotun_trio.access.known_hosts import KnownHosts
from cotun_trio.client.doctor import certificates
from cotun_trio.client.doctor.visitor import STAGE_TIMEOUT
from cotun_trio.errors import (
    AuthenticationFailed,
    ConfigRefused,
    ConnectionLost,
    FingerprintMismatch,
    TlsFailed,
    UpgradeRefused,
    UsageError,
)
from cotun_trio.protocol.dialect import COTUN
from cotun_trio.protocol.proxy_url import ProxyUrl
from cotun_trio.settings import ClientTls, ServerTls
from cotun_trio.ssh import messages
from cotun_trio.ssh.engine import LoginRequested
from tests.support.certificates import Authority
from tests.support.doctor import examined
from tests.support.leaks import nothing_left
from tests.support.names import know
from tests.support.peer import scripted_server, upgrade_response
from tests.support.proxies import running_proxy
from tests.support.targets import LOOPBACK, listening, refused_address
from tests.support.tunnel import running_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.support.peer import Peer

host_key = functools.cache(generate_host_key)
ALICE = Credentials("alice", "secret")
IN_SESSION = ["ssh", "host key", "login", "config", "ping", "upload"]


# ---- a way without faults


async def test_a_server_of_ours_is_examined_to_the_end() -> None:
    async with running_server(auth=ALICE) as server, nothing_left():
        found = await examined(server.addresses[0], auth=ALICE, fingerprint=server.fingerprint)
    assert found.failure is None
    assert [step.name for step in found.steps] == ["address", "connection", "upgrade", *IN_SESSION]
    assert {step.outcome for step in found.steps} == {"ok"}
    assert found["upgrade"].facts["status"] == 101
    assert found["ssh"].facts["program"] == "cotun-trio"
    assert found["host key"].facts == {
        "fingerprint": server.fingerprint,
        "compared_with": "--fingerprint",
    }
    assert found["login"].facts == {"user": "alice"}
    assert found["upload"].facts["sent_bytes"] == 48 * 64 * 1024


async def test_a_pause_is_as_long_as_it_was_asked_for(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with running_server(keepalive=0.0) as server:
        found = await examined(server.addresses[0], idle=300.0)
    assert found.failure is None
    assert found["idle"].facts == {"idle_seconds": 300.0, "received_bytes": 0}


async def test_a_pause_in_which_the_server_pings_is_none(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with running_server(keepalive=25.0) as server:
        found = await examined(server.addresses[0], idle=60.0)
    assert found["idle"].outcome == "ok"
    assert "not idle for all of that time" in found["idle"].meaning


async def test_a_name_has_a_step_and_digits_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    know(monkeypatch, **{"tunnel.example": ["127.0.0.1"]})
    async with running_server() as server:
        port = server.addresses[0].rpartition(":")[2]
        found = await examined(f"http://tunnel.example:{port}")
    assert found["name"].facts["addresses"] == ["127.0.0.1"]
    assert found.failure is None


async def test_a_server_with_the_other_dialect_is_found() -> None:
    async def script(peer: Peer) -> None:
        request = await peer.receive_head()
        if COTUN.token.encode() not in request:
            await peer.send_raw(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        answer = upgrade_response(request).removesuffix(b"\r\n")
        await peer.send_raw(answer + b"Sec-WebSocket-Protocol: costrict-v3\r\n\r\n")

    async with scripted_server(script, host_key()) as address:
        found = await examined(address)
    assert found["upgrade"].outcome == "ok"
    assert found["upgrade"].facts["protocol"] == "costrict-v3"


# ---- TCP and proxies


async def test_nothing_that_listens_ends_it_at_the_address() -> None:
    found = await examined(refused_address())
    assert found.failed.name == "address"
    assert "nothing listens" in found.failed.meaning
    left = {step.name for step in found.steps[1:]}
    assert left == {"connection", "upgrade", *IN_SESSION}


async def test_a_way_through_a_proxy_has_a_step_for_it_and_never_shows_its_password() -> None:
    async with running_server() as server, running_proxy(user="bob", password="hunter2") as proxy:
        url = ProxyUrl.parse(f"http://bob:hunter2@{proxy.address}")
        found = await examined(server.addresses[0], proxy=url)
        wrong = await examined(
            server.addresses[0], proxy=ProxyUrl.parse(f"http://bob:hunter3@{proxy.address}")
        )
    assert found.failure is None
    assert found["address"].facts == {"address": proxy.address}
    assert found["proxy"].facts["to"] == server.addresses[0]
    assert wrong.failed.name == "proxy"
    assert "wants a login, or does not take this one" in wrong.failed.meaning
    assert "hunter" not in repr((found.steps, wrong.steps))


async def test_a_proxy_that_refuses_says_why() -> None:
    async with running_proxy(answer=b"HTTP/1.1 403 Forbidden\r\n\r\n") as proxy:
        url = ProxyUrl.parse(f"http://{proxy.address}")
        found = await examined("http://inside.example:22", proxy=url)
    assert found.failed.name == "proxy"
    assert "does not allow connections to this host or port" in found.failed.meaning


# ---- TLS


@pytest.mark.parametrize(
    ("certificate", "meaning"),
    [
        ({"expired": True}, "past its end, or the clock of this machine is wrong"),
        ({"future": True}, "before its beginning"),
        ({"names": ["other.example"]}, "for other names"),
        ({"trusted": False}, "a proxy on the way that opens TLS"),
    ],
    ids=["expired", "future", "another name", "unknown issuer"],
)
async def test_a_certificate_that_is_not_taken_is_shown_and_explained(
    certificate: dict[str, object], meaning: str, tmp_path: Path
) -> None:
    options = dict(certificate)
    trusted = options.pop("trusted", True)
    names = options.pop("names", [LOOPBACK])
    authority = Authority(tmp_path / "ca")
    cert, key = authority.issue(*names, **options)  # type: ignore[misc, arg-type]
    ca = authority if trusted else Authority(tmp_path / "other")
    async with running_server(tls=ServerTls(cert=cert, key=key)) as server, nothing_left():
        found = await examined(f"https://{server.addresses[0]}", tls=ClientTls(ca=ca.path))
    assert isinstance(found.failure, TlsFailed)
    assert found.failed.name == "tls"
    assert meaning in found.failed.meaning
    assert found.failed.facts["verified"] is False
    assert found.failed.facts["names"] == names
    assert "trustme" in str(found.failed.facts["issuer"])


async def test_tls_that_works_is_shown_with_its_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue(LOOPBACK)
    async with running_server(tls=ServerTls(cert=cert, key=key)) as server:
        url = f"https://{server.addresses[0]}"
        found = await examined(url, tls=ClientTls(ca=authority.path))
        unverified = await examined(url, tls=ClientTls(skip_verify=True))
    assert found["tls"].outcome == "ok"
    assert found["tls"].facts["version"] == "TLSv1.3"
    assert found["tls"].facts["verified"] is True
    assert found["host key"].outcome == "ok"  # TLS has said that it is the right server
    assert unverified.failure is None
    assert unverified["tls"].outcome == unverified["host key"].outcome == "warning"
    assert unverified["tls"].facts["names"] == [LOOPBACK]


async def test_a_certificate_that_ends_soon_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "SOON", timedelta(days=500_000))  # those of tests live long
    authority = Authority(tmp_path)
    cert, key = authority.issue(LOOPBACK)
    async with running_server(tls=ServerTls(cert=cert, key=key)) as server:
        found = await examined(f"https://{server.addresses[0]}", tls=ClientTls(ca=authority.path))
    assert found.failure is None
    assert found["tls"].outcome == "warning"
    assert found["tls"].meaning == "the certificate ends soon"


async def test_a_product_that_opens_tls_on_the_way_is_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca", organization="Zscaler Inc.")
    cert, key = authority.issue(LOOPBACK)
    async with running_server(tls=ServerTls(cert=cert, key=key)) as server:
        url = f"https://{server.addresses[0]}"
        trusted = await examined(url, tls=ClientTls(ca=authority.path))
        unknown = await examined(url, tls=ClientTls(ca=Authority(tmp_path / "other").path))
    assert trusted.failure is None
    assert trusted["tls"].outcome == "warning"
    for step in (trusted["tls"], unknown.failed):
        assert step.meaning == "Zscaler is on the way and opens TLS"
        assert "--fingerprint" in step.advice


async def test_tls_and_plain_http_are_told_apart_in_both_directions(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue(LOOPBACK)
    async with running_server() as plain, running_server(tls=ServerTls(cert=cert, key=key)) as tls:
        to_plain = await examined(f"https://{plain.addresses[0]}")
        to_tls = await examined(f"http://{tls.addresses[0]}")
    assert to_plain.failed.name == "tls"
    assert "write http://" in to_plain.failed.advice
    assert to_tls.failed.name == "upgrade"
    assert "write https://" in to_tls.failed.advice


# ---- the upgrade


def answering(response: bytes) -> Callable[[Peer], Awaitable[object]]:
    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send_raw(response)
        await peer.gone()

    return script


async def test_an_answer_that_is_no_upgrade_is_shown_and_explained() -> None:
    response = (
        b"HTTP/1.1 403 Forbidden\r\nServer: cloudflare\r\nContent-Length: 99\r\n\r\n"
        b"<html><title>Attention \x1b[31m Required!</title>"
    )
    async with scripted_server(answering(response), host_key()) as address:
        found = await examined(address)
    assert isinstance(found.failure, UpgradeRefused)
    assert found.failed.name == "upgrade"
    assert found.failed.facts == {
        "status": 403,
        "server": "cloudflare",
        "page": r"Attention \x1b[31m Required!",
        "error": "the server answered HTTP 403 where a WebSocket upgrade was expected",
    }
    assert "Cloudflare is in front of the server" in found.failed.meaning


async def test_a_server_of_ours_that_bars_the_address_says_for_how_long() -> None:
    async with running_server(auth=ALICE, max_auth_failures=1) as server:
        wrong = await examined(server.addresses[0], auth=Credentials("alice", "wrong"))
        barred = await examined(server.addresses[0], auth=ALICE)
    assert isinstance(wrong.failure, AuthenticationFailed)
    assert wrong.failed.name == "login"
    assert barred.failed.name == "upgrade"
    assert "try again after" in barred.failed.meaning
    assert "bars an address for a while after failed logins" in barred.failed.advice


@pytest.mark.parametrize(
    ("early", "step", "meaning"),
    [
        (None, "upgrade", "no HTTP comes back"),
        (b"", "ssh", "a proxy on the way buffers"),
        (b"\x82\x16SSH-chisel-v3-server\r\n", "ssh", "packets of full size may be lost"),
    ],
    ids=["no answer", "no frames", "one frame"],
)
async def test_silence_has_a_deadline_and_a_meaning_for_each_step(
    early: bytes | None, step: str, meaning: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async def script(peer: Peer) -> None:
        request = await peer.receive_head()
        if early is not None:
            await peer.send_raw(upgrade_response(request))
            await trio.sleep(1)  # of the mock clock: it is no part of the answer
            await peer.send_raw(early)
        await peer.gone()

    async with scripted_server(script, host_key()) as address, nothing_left():
        found = await examined(address, protocol="chisel")
    assert found.failed.name == step
    assert meaning in found.failed.meaning
    assert found.failed.seconds == pytest.approx(STAGE_TIMEOUT, abs=0.1)


async def test_a_connection_that_is_closed_behind_the_upgrade_says_so() -> None:
    async def script(peer: Peer) -> None:
        await peer.upgrade()

    async with scripted_server(script, host_key()) as address:
        found = await examined(address)
    assert found.failed.name == "ssh"
    assert "takes WebSockets, but not what is in them" in found.failed.meaning


# ---- the session


async def test_another_host_key_than_expected_ends_it_before_the_login() -> None:
    async with running_server(auth=ALICE) as server:
        found = await examined(server.addresses[0], auth=ALICE, fingerprint="1" * 42 + "0=")
    assert isinstance(found.failure, FingerprintMismatch)
    assert found.failed.name == "host key"
    assert found.failed.facts["fingerprint"] == server.fingerprint


async def test_known_hosts_are_compared_with_and_never_written(tmp_path: Path) -> None:
    path = tmp_path / "known"
    async with running_server() as server:
        address = server.addresses[0]
        unknown = await examined(address, known_hosts=str(path))
        assert not path.exists()
        KnownHosts(str(path)).meet(address, server.fingerprint)
        known = await examined(address, known_hosts=str(path))
        KnownHosts(str(path)).forget(address)
        KnownHosts(str(path)).meet(address, "1" * 42 + "0=")
        before = path.read_bytes()
        other = await examined(address, known_hosts=str(path))
    assert unknown["host key"].outcome == "warning"
    assert "nothing says that this is the right server" in unknown["host key"].meaning
    assert known["host key"].outcome == "ok"
    assert known["host key"].facts["compared_with"] == "--known-hosts"
    assert isinstance(other.failure, FingerprintMismatch)
    assert path.read_bytes() == before


async def test_a_file_that_cannot_be_used_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "known").write_text("one two three\n")
    with pytest.raises(UsageError, match="known hosts"):
        await examined("http://127.0.0.1:1", known_hosts=str(tmp_path / "known"))


async def test_a_server_with_users_wants_credentials() -> None:
    async with running_server(auth=ALICE) as server:
        found = await examined(server.addresses[0])
    assert isinstance(found.failure, AuthenticationFailed)
    assert found.failed.name == "login"
    assert "give --auth" in found.failed.advice
    assert "user" not in found.failed.facts


async def test_a_refused_config_request_ends_it_there() -> None:
    async def script(peer: Peer) -> None:
        await peer.upgrade()
        await peer.agree_keys()
        await peer.let_in()
        await peer.receive_type(messages.GLOBAL_REQUEST)
        await peer.send(bytes([messages.REQUEST_FAILURE]) + b"not today")
        await peer.gone()

    async with scripted_server(script, host_key()) as address:
        found = await examined(address)
    assert isinstance(found.failure, ConfigRefused)
    assert found.failed.name == "config"
    assert found.failed.facts["error"] == "the server refused: not today"


async def test_a_login_that_is_never_answered_has_a_deadline(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.upgrade()
        await peer.agree_keys()
        while not isinstance(await peer.next_event(), LoginRequested):
            pass
        await peer.gone()

    async with scripted_server(script, host_key()) as address:
        found = await examined(address)
    assert found.failed.name == "login"
    assert "does not answer the login" in found.failed.meaning


async def test_the_password_is_in_no_step() -> None:
    async with running_server(auth=ALICE) as server:
        for user in (ALICE, Credentials("alice", "hunter2")):
            found = await examined(server.addresses[0], auth=user)
            assert user.password not in repr(found.steps)


async def test_cancelled_it_leaves_nothing_open() -> None:
    asked = trio.Event()

    async def hang(stream: trio.SocketStream) -> None:
        async for _ in stream:
            asked.set()

    async with listening(hang) as address, nothing_left(), trio.open_nursery() as nursery:
        nursery.start_soon(examined, address)
        await asked.wait()
        nursery.cancel_scope.cancel()


# ---- trials


def open_server(
    *, pings: int, short_only: bool = False, ends: bool = False
) -> Callable[[Peer], Awaitable[object]]:
    """Return a script that answers so many pings, and then none; or `ends` the connection."""

    async def script(peer: Peer) -> None:
        await peer.let_client_in()
        answered = 0
        while answered < pings:
            request = await peer.next_event()
            if isinstance(request, bytes) and not (short_only and len(request) > 1000):
                answered += 1
                await peer.send(bytes([messages.REQUEST_SUCCESS]) + b"pong")
        if not ends:
            await peer.gone()

    return script


@pytest.mark.parametrize(
    ("script", "step", "meaning"),
    [
        (open_server(pings=3), "ping", ""),
        (open_server(pings=5), "idle", "a firewall or a NAT on the way has forgotten it"),
        (open_server(pings=5, ends=True), "idle", "drops a connection that is idle"),
        (open_server(pings=99, short_only=True), "upload", "long ones do not"),
    ],
    ids=["no pong", "silent", "cut", "short only"],
)
async def test_a_session_that_fails_at_work_says_where(
    script: Callable[[Peer], Awaitable[object]],
    step: str,
    meaning: str,
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with scripted_server(script, host_key()) as address, nothing_left():
        found = await examined(address, idle=60.0)
    assert isinstance(found.failure, ConnectionLost)
    assert found.failed.name == step
    assert meaning in found.failed.meaning
