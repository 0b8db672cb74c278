"""The back end behind a server: whatever is no tunnel goes there and comes back unharmed."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import ssl
from ipaddress import ip_network
from typing import TYPE_CHECKING

import h11
import pytest
import trio
import trio_websocket

from cotun_trio.http.front import HEAD_TIMEOUT
from cotun_trio.settings import ServerUrl
from cotun_trio.ssh import messages
from tests.support.certificates import Authority
from tests.support.leaks import nothing_left
from tests.support.log_watch import watch_logs
from tests.support.peer import Peer, upgrade_request
from tests.support.targets import (
    MiB,
    background,
    connect,
    connect_from,
    echo,
    echoes,
    listening,
    random_bytes,
    receive_all,
)
from tests.support.tunnel import echo_tunnel, running_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.gateway import Stream
from tests.support.gateway import GET, OK, Reader, asked, gateway, saying, says

# ---- what is passed on


async def test_a_request_goes_there_and_the_response_comes_back() -> None:
    heads: list[bytes] = []

    async def handler(stream: Stream) -> None:
        heads.append(await Reader(stream).until(b"\r\n\r\n"))
        await stream.send_all(
            b"HTTP/1.1 203 Fine\r\nX-Custom: y\r\nConnection: X-Hop\r\nX-Hop: 1\r\n"
            b"Content-Length: 2\r\n\r\nok"
        )

    async with gateway(handler) as server:
        answer = await asked(
            server,
            b"DELETE http://example.com/a/b?c=d HTTP/1.1\r\nHost: example.com\r\n"
            b"X-Forwarded-For: 1.2.3.4\r\nConnection: close\r\nAccept: x\r\n\r\n",
        )
    assert answer.startswith(b"HTTP/1.1 203 Fine\r\n")
    assert b"x-custom: y\r\n" in answer.lower()
    assert b"x-hop" not in answer.lower()
    assert answer.endswith(b"\r\n\r\nok")
    (head,) = heads
    assert head.startswith(b"DELETE /a/b?c=d HTTP/1.1\r\n")
    assert b"host: 127.0.0.1:" in head.lower()
    assert b"x-forwarded-for: 127.0.0.1\r\n" in head.lower()
    assert b"accept: x\r\n" in head.lower()
    assert b"connection: close" not in head.lower()


async def test_a_trusted_proxy_is_believed() -> None:
    heads: list[bytes] = []

    async def handler(stream: Stream) -> None:
        heads.append(await Reader(stream).until(b"\r\n\r\n"))
        await stream.send_all(OK)

    async with gateway(handler, trusted_proxies=(ip_network("127.0.0.0/8"),)) as server:
        await asked(server, GET[:-2] + b"X-Forwarded-For: 1.2.3.4\r\nConnection: close\r\n\r\n")
    assert b"x-forwarded-for: 1.2.3.4, 127.0.0.1\r\n" in heads[0].lower()


async def test_a_tunnel_from_behind_a_trusted_proxy_has_its_clients_address() -> None:
    async with (
        running_server(trusted_proxies=(ip_network("127.0.0.0/8"),)) as server,
        watch_logs() as log,
        await connect(server.addresses[0]) as stream,
    ):
        await stream.send_all(upgrade_request(X_Forwarded_For="1.2.3.4").replace(b"_F", b"-F"))
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 101 ")
        await stream.aclose()
        await log.wait_for("client=1.2.3.4 session=")


@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_of_any_size_pass_both_ways_unharmed(chunked: bool) -> None:
    """The back end sends every byte back while it comes."""
    data = random_bytes(4 * MiB)

    async def handler(stream: Stream) -> None:
        parser = h11.Connection(h11.SERVER)
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                parser.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Request):
                length = [(k, v) for k, v in event.headers if k == b"content-length"]
                reply = h11.Response(status_code=200, headers=length)
                await stream.send_all(parser.send(reply) or b"")
            elif isinstance(event, h11.Data):
                await stream.send_all(parser.send(h11.Data(bytes(event.data))) or b"")
            else:
                await stream.send_all(parser.send(h11.EndOfMessage()) or b"")
                return

    async with gateway(handler) as server, await connect(server.addresses[0]) as stream:
        client = h11.Connection(h11.CLIENT)
        framing = (
            ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(data)))
        )
        request = h11.Request(method="POST", target="/", headers=[("Host", "x"), framing])

        async def send() -> None:
            await stream.send_all(client.send(request) or b"")
            for at in range(0, len(data), 100_000):
                await stream.send_all(client.send(h11.Data(data[at : at + 100_000])) or b"")
            await stream.send_all(client.send(h11.EndOfMessage()) or b"")

        digest = hashlib.sha256()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while not isinstance(event := client.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    client.receive_data(await stream.receive_some())
                elif isinstance(event, h11.Data):
                    digest.update(event.data)
        assert digest.digest() == hashlib.sha256(data).digest()


async def test_trailers_pass_both_ways() -> None:
    bodies: list[bytes] = []

    async def handler(stream: Stream) -> None:
        reader = Reader(stream)
        await reader.until(b"\r\n\r\n")
        bodies.append(await reader.until(b"\r\n\r\n"))
        await stream.send_all(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
            b"2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n"
        )

    async with gateway(handler) as server:
        answer = await asked(
            server,
            b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
            b"TE: trailers\r\n\r\n2\r\nhi\r\n0\r\nX-Check: 9\r\n\r\n",
        )
    assert b"x-check: 9\r\n" in bodies[0].lower()
    assert answer.lower().endswith(b"2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n")


async def test_responses_before_the_response_are_passed_on() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with gateway(saying(hints + OK)) as server:
        answer = await asked(server, GET[:-2] + b"Connection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200")
        answer = await asked(server, b"GET / HTTP/1.0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")  # HTTP/1.0 does not know them


async def test_a_client_that_waits_for_100_gets_it_from_the_back_end() -> None:
    async def handler(stream: Stream) -> None:
        reader = Reader(stream)
        assert b"expect: 100-continue" in (await reader.until(b"\r\n\r\n")).lower()
        await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await reader.exactly(5) == b"hello"
        await stream.send_all(OK)

    async with gateway(handler) as server, await connect(server.addresses[0]) as stream:
        await stream.send_all(
            b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        reader = Reader(stream)
        assert (await reader.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        await stream.send_all(b"hello")
        assert (await reader.until(b"ok")).startswith(b"HTTP/1.1 200 ")


async def test_an_answer_that_does_not_wait_for_the_body_is_passed_on() -> None:
    refusal = b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n"
    async with gateway(saying(refusal)) as server, await connect(server.addresses[0]) as stream:
        await stream.send_all(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\nx")
        assert (await Reader(stream).until(b"\r\n\r\n")).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("method", "response"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 999\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
    ],
)
async def test_a_response_without_a_body_has_none(method: bytes, response: bytes) -> None:
    async with (
        gateway(saying(response, OK)) as server,
        await connect(server.addresses[0]) as stream,
    ):
        reader = Reader(stream)
        await stream.send_all(GET.replace(b"GET", method))
        head = await reader.until(b"\r\n\r\n")
        assert head.split(b"\r\n")[0] == response.split(b"\r\n")[0]
        assert (b"999" in head) == (b"999" in response)
        await stream.send_all(GET)  # the connection is still good
        assert (await reader.until(b"ok")).startswith(b"HTTP/1.1 200")


async def test_a_body_that_ends_with_the_connection_is_passed_on() -> None:
    async with gateway(saying(b"HTTP/1.0 200 OK\r\n\r\nthe end")) as server:
        answer = await asked(server, b"GET / HTTP/1.0\r\n\r\n")
        assert answer.endswith(b"\r\n\r\nthe end")
        answer = await asked(server, GET[:-2] + b"Connection: close\r\n\r\n")
        assert b"7\r\nthe end\r\n0\r\n\r\n" in answer


async def test_one_connection_has_many_requests_also_pipelined() -> None:
    connections = 0

    async def handler(stream: Stream) -> None:
        nonlocal connections
        connections += 1
        await says(*[OK] * 5, stream=stream)

    async with gateway(handler) as server, await connect(server.addresses[0]) as stream:
        reader = Reader(stream)
        for _ in range(3):
            await stream.send_all(GET)
            await reader.until(b"ok")
        await stream.send_all(GET + GET)
        await reader.until(b"ok")
        await reader.until(b"ok")
    assert connections == 1


async def test_a_back_end_that_closed_an_idle_connection_is_connected_again() -> None:
    async with gateway(saying(OK)) as server, await connect(server.addresses[0]) as stream:
        reader = Reader(stream)
        for _ in range(3):
            await stream.send_all(GET)
            assert (await reader.until(b"ok")).startswith(b"HTTP/1.1 200")
            await trio.testing.wait_all_tasks_blocked(0.005)


async def test_the_back_end_may_speak_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = Authority(tmp_path / "ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*ca.issue("127.0.0.1"))
    monkeypatch.setenv("SSL_CERT_FILE", ca.path)  # whom the system trusts

    async def handler(stream: Stream) -> None:
        near = trio.SSLStream(stream, context, server_side=True)
        head = b""
        while b"\r\n\r\n" not in head:
            head += await near.receive_some()
        await near.send_all(OK)

    async with listening(handler) as address, listening(echo) as plain:
        url = ServerUrl.parse(f"https://{address}")
        async with running_server(backend=url) as server:
            answer = await asked(server, GET[:-2] + b"Connection: close\r\n\r\n")
            assert answer.endswith(b"ok")
        async with running_server(backend=ServerUrl.parse(f"https://{plain}")) as server:
            assert (await asked(server, GET)).startswith(b"HTTP/1.1 502 ")


async def test_a_client_that_goes_in_the_middle_of_its_body_ends_the_request() -> None:
    ends: list[bytes] = []

    async def handler(stream: Stream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            ends.append(await receive_all(stream))

    async with gateway(handler) as server, nothing_left():
        async with await connect(server.addresses[0]) as stream:
            await stream.send_all(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
        while not ends:
            await trio.testing.wait_all_tasks_blocked(0.005)
    assert ends[0].endswith(b"half")


async def test_a_back_end_that_takes_no_more_of_the_body_may_still_answer() -> None:
    async def handler(stream: Stream) -> None:
        await Reader(stream).until(b"\r\n\r\n")
        await stream.send_all(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")

    async with gateway(handler) as server, await connect(server.addresses[0]) as stream:
        await stream.send_all(
            b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
        )
        assert (await Reader(stream).until(b"\r\n\r\n")).startswith(b"HTTP/1.1 413 ")


# ---- upgrades


async def test_another_protocol_is_relayed_both_ways() -> None:
    async def handler(stream: Stream) -> None:
        await Reader(stream).until(b"\r\n\r\n")
        await stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: mine\r\n\r\nfirst"
        )
        await echo(stream)

    async with (
        gateway(handler, backend_upgrades=("mine",)) as server,
        await connect(server.addresses[0]) as stream,
    ):
        await stream.send_all(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: mine\r\n\r\nsecond")
        reader = Reader(stream)
        head = await reader.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"upgrade: mine\r\n" in head.lower()
        assert await reader.exactly(11) == b"firstsecond"
        assert await echoes(stream)
        await stream.send_eof()
        assert await receive_all(stream) == b""


async def test_an_upgrade_that_is_refused_is_an_ordinary_response() -> None:
    async with (
        gateway(saying(OK, OK), backend_upgrades=("mine",)) as server,
        await connect(server.addresses[0]) as stream,
    ):
        reader = Reader(stream)
        for _ in range(2):
            await stream.send_all(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: mine\r\n\r\n")
            assert (await reader.until(b"ok")).startswith(b"HTTP/1.1 200")


async def test_the_websocket_of_a_real_client_reaches_a_real_server() -> None:
    async def handler(request: trio_websocket.WebSocketRequest) -> None:
        socket = await request.accept()
        with contextlib.suppress(trio_websocket.ConnectionClosed):
            while True:
                await socket.send_message(await socket.get_message())

    async with background() as nursery:
        backend = await nursery.start(
            functools.partial(trio_websocket.serve_websocket, handler, "127.0.0.1", 0, None)
        )
        url = ServerUrl.parse(f"http://127.0.0.1:{backend.port}")
        async with (
            running_server(backend=url) as server,
            trio_websocket.open_websocket_url(f"ws://{server.addresses[0]}/chat") as socket,
        ):
            for message in ("hello", bytes(range(256)) * 1000):
                await socket.send_message(message)
                assert await socket.get_message() == message


async def test_tunnels_go_on_beside_a_back_end() -> None:
    async with listening(saying(OK)) as address:
        url = ServerUrl.parse(f"http://{address}")
        async with (
            echo_tunnel(server={"backend": url}) as both,
            await both.connect() as stream,
        ):
            assert await echoes(stream)


async def test_a_tunnel_may_begin_behind_other_requests_of_its_connection() -> None:
    async with gateway(saying(OK)) as server, await connect(server.addresses[0]) as stream:
        await stream.send_all(GET)
        await Reader(stream).until(b"ok")
        peer = Peer(stream)
        await peer.upgrade()
        await peer.agree_keys()
        await peer.log_in()
        assert (await peer.send_config())[0] == messages.REQUEST_SUCCESS


async def test_a_tunnel_behind_other_requests_needs_a_place_like_any_other() -> None:
    async with (
        gateway(saying(OK), max_startups=2) as server,
        await connect(server.addresses[0]) as late,
    ):
        await late.send_all(GET)
        await Reader(late).until(b"ok")
        async with await connect(server.addresses[0]), await connect(server.addresses[0]):
            await trio.testing.wait_all_tasks_blocked(0.005)
            await late.send_all(upgrade_request())
            assert (await late.receive_some()).startswith(b"HTTP/1.1 503 ")


class BackEnd:
    """One that answers all requests, those for /slow only when it is told to."""

    def __init__(self) -> None:
        self.go_on = trio.Event()

    async def serve(self, stream: Stream) -> None:
        while head := await stream.receive_some():
            assert head.endswith(b"\r\n\r\n")
            if b" /slow " in head:
                await self.go_on.wait()
            await stream.send_all(OK)


async def test_a_connection_that_is_kept_alive_keeps_its_place_for_its_source() -> None:
    async with (
        gateway(BackEnd().serve, max_startups=2, max_startups_per_source=3) as server,
        contextlib.AsyncExitStack() as kept,
    ):
        address = server.addresses[0]
        streams = []
        for _ in range(3):  # one more than may be on their way in
            streams.append(await kept.enter_async_context(await connect(address)))
            await streams[-1].send_all(GET)
            await Reader(streams[-1]).until(b"ok")
        await streams[2].send_all(GET.replace(b" / ", b" /slow "))  # waiting, it counts as well
        await trio.testing.wait_all_tasks_blocked(0.005)
        async with await connect(address) as refused:
            with trio.fail_after(HEAD_TIMEOUT / 2):  # at once, not since it says nothing
                assert await receive_all(refused) == b""
        async with await connect_from("127.0.0.2", address) as other:
            await other.send_all(GET)
            await Reader(other).until(b"ok")
        await streams[0].send_all(GET[:-2] + b"Connection: close\r\n\r\n")
        assert (await receive_all(streams[0])).endswith(b"ok")
        async with await connect(address) as again:
            await again.send_all(GET)
            await Reader(again).until(b"ok")


def named(client: str) -> bytes:
    """Return a request as a proxy passes it on."""
    return GET[:-2] + f"X-Forwarded-For: {client}\r\n\r\n".encode()


async def test_the_client_that_a_trusted_proxy_names_has_so_many_places() -> None:
    proxies = (ip_network("127.0.0.0/8"),)
    slow = named("192.0.2.1").replace(b" / ", b" /slow ")
    back_end = BackEnd()
    async with (
        watch_logs() as log,
        gateway(back_end.serve, trusted_proxies=proxies, max_startups_per_source=2) as server,
        contextlib.AsyncExitStack() as streams,
        await connect(server.addresses[0]) as proxy,
    ):
        address = server.addresses[0]
        for _ in range(2):
            stream = await streams.enter_async_context(await connect(address))
            reader = Reader(stream)
            # One that has been answered holds nothing: the connection is the proxy's.
            for client in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
                await stream.send_all(named(client))
                await reader.until(b"ok")
            await stream.send_all(slow)
            reader_of_slow = reader
        await trio.testing.wait_all_tasks_blocked(0.005)
        reader = Reader(proxy)
        for request in (named("192.0.2.2"), GET):
            await proxy.send_all(request)
            await reader.until(b"ok")
        for _ in range(2):
            async with await connect(address) as full:
                await full.send_all(named("192.0.2.1"))
                answer = await receive_all(full)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: 5\r\n" in answer
        back_end.go_on.set()
        await reader_of_slow.until(b"ok")
        await trio.testing.wait_all_tasks_blocked(0.005)
        await proxy.send_all(named("192.0.2.1"))
        await reader.until(b"ok")
    assert log.lines("server").count("HTTP: too many connections") == 0
    assert len(log.find("too many connections of 192.0.2.1 have not logged in")) == 1


async def test_the_place_of_a_tunnel_is_that_of_the_client_that_the_proxy_names() -> None:
    proxies = (ip_network("127.0.0.0/8"),)
    upgrade = upgrade_request(**{"X-Forwarded-For": "192.0.2.1"})
    async with running_server(trusted_proxies=proxies, max_startups_per_source=1) as server:
        address = server.addresses[0]
        async with await connect(address) as one:
            await one.send_all(upgrade)
            assert (await one.receive_some()).startswith(b"HTTP/1.1 101 ")
            async with await connect(address) as two, await connect(address) as three:
                await two.send_all(upgrade)
                assert (await two.receive_some()).startswith(b"HTTP/1.1 503 ")
                await three.send_all(upgrade.replace(b"192.0.2.1", b"192.0.2.2"))
                assert (await three.receive_some()).startswith(b"HTTP/1.1 101 ")


async def test_health_is_the_back_ends_but_where_it_is_asked_for_apart() -> None:
    health = GET.replace(b" / ", b" /health ").replace(
        b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"
    )
    async with gateway(saying(OK), health_listen=("127.0.0.1", 0)) as server:
        assert (await asked(server, health)).endswith(b"\r\n\r\nok")
        async with await connect(server.health_addresses[0]) as stream:
            await stream.send_all(health)
            assert (await receive_all(stream)).endswith(b"\r\n\r\nOK\n")
