"""The front: requests, upgrades, refusals, and the answer to each.

Clients are raw sockets; what we answer is read back by h11's client.
"""

from __future__ import annotations

from http import HTTPStatus

import h11
import pytest
import trio
import trio.testing

from cotun_trio.errors import ConnectionLost
from cotun_trio.http.front import (
    HEAD_TIMEOUT,
    MAX_DRAINED,
    MAX_FIELDS,
    MAX_HEAD,
    Front,
    HeadError,
    Request,
    asks_for_websocket,
    respond,
    respond_error,
)
from cotun_trio.net.transport import Transport
from tests.support.sockets import receive_rest, send_all, tcp_pair, unix_pair, waiting

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
REQUEST = Request(b"GET", b"/", (), b"")


async def receive(*pieces: bytes, then_close: bool = False) -> Request:
    """Return the request that arrives in `pieces`, each in a read of its own."""
    with unix_pair() as (sock, client):
        results: list[Request | Exception] = []

        async def front() -> None:
            try:
                results.append(await Front(Transport(sock)).next_request())
            except (HeadError, ConnectionLost) as error:
                results.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(front)
            for piece in pieces:
                await send_all(client, piece)
                await trio.testing.wait_all_tasks_blocked()
            if then_close:
                client.close()
        (result,) = results
        if isinstance(result, Exception):
            raise result
        return result


async def refusal(*pieces: bytes, then_close: bool = False) -> HTTPStatus:
    """Return the status of the error that `pieces` lead to."""
    with pytest.raises(HeadError) as caught:
        await receive(*pieces, then_close=then_close)
    assert str(caught.value).startswith("HTTP: ")
    assert str(caught.value).isprintable()
    return caught.value.status


def padded(size: int) -> bytes:
    """Return a request head of `size` bytes."""
    return GET[:-2] + b"X: ".ljust(size - len(GET) - 2, b"x") + b"\r\n\r\n"


# ---- a head


async def test_a_head_is_read_with_its_headers_in_lower_case() -> None:
    request = await receive(b"POST /a?b HTTP/1.1\r\nHOST: h\r\nX-Two: 1\r\nx-two: 2\r\n\r\n")
    assert (request.method, request.target, request.early) == (b"POST", b"/a?b", b"")
    assert request.values(b"host") == [b"h"]
    assert request.values(b"x-two") == [b"1", b"2"]
    assert request.values(b"x-three") == []


async def test_byte_by_byte_is_the_same_as_whole() -> None:
    head = b"GET /x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n"
    assert await receive(*(head[i : i + 1] for i in range(len(head)))) == await receive(head)


@pytest.mark.parametrize("behind", [b"x", b"\r\n", GET, bytes(range(256)), b"\x82\x85abcdhello"])
async def test_what_came_behind_the_head_is_kept(behind: bytes) -> None:
    upgrade = GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    for head in (GET, upgrade, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n"):
        assert (await receive(head + behind)).early == behind


async def test_a_head_may_be_as_long_as_the_limit_and_no_longer() -> None:
    whole, over = padded(MAX_HEAD), padded(MAX_HEAD + 1)
    assert (len(whole), len(over)) == (MAX_HEAD, MAX_HEAD + 1)
    behind = b"x" * 1000  # does not count
    for cut in (0, 100, 4096, MAX_HEAD - 1):
        assert (await receive(whole[:cut], whole[cut:] + behind)).early == behind
        assert await refusal(over[:cut], over[cut:] + behind) == 431


async def test_a_head_without_an_end_is_refused_at_the_limit() -> None:
    endless = padded(MAX_HEAD)[:-4]
    assert await refusal(endless, b"xxxxx") == 431


async def test_a_head_that_stalls_is_refused_after_ten_seconds(autojump: object) -> None:
    assert await refusal(GET[:-1]) == 408
    assert trio.current_time() == pytest.approx(HEAD_TIMEOUT)


async def test_a_byte_now_and_then_gains_no_time(autojump: object) -> None:
    with unix_pair() as (sock, client):

        async def drip() -> None:
            for at in range(len(GET)):
                client.send(GET[at : at + 1])
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            with pytest.raises(HeadError) as caught:
                await Front(Transport(sock)).next_request()
            assert caught.value.status == 408
            assert trio.current_time() == pytest.approx(HEAD_TIMEOUT)
            nursery.cancel_scope.cancel()


async def test_a_client_that_says_nothing_is_lost_after_ten_seconds(autojump: object) -> None:
    with pytest.raises(ConnectionLost):
        await receive()
    assert trio.current_time() == pytest.approx(HEAD_TIMEOUT)


async def test_a_client_that_closes_at_once_is_lost() -> None:
    with pytest.raises(ConnectionLost):
        await receive(then_close=True)


async def test_a_client_that_closes_in_its_head_made_a_bad_request() -> None:
    for at in (1, 20, len(GET) - 1):
        assert await refusal(GET[:at], then_close=True) == 400


async def test_a_client_that_resets_the_connection_is_lost() -> None:
    with tcp_pair() as (sock, client):
        client.send(GET[:10])
        client.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER: close by a reset
        client.close()
        with pytest.raises(ConnectionLost):
            await Front(Transport(sock)).next_request()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
        b"GET / HTTPS/1.1\r\nHost: h\r\n\r\n",
        b"G\0T / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET\xff / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\xff\r\nHost: h\r\n\r\n",
        b"GET /\x7f HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nspace before: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded: first\r\nHost: h\r\n\r\n",
        b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_a_bad_request(garbage: bytes) -> None:
    assert await refusal(garbage) == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"", 400),
        (b"Host: a\r\nHost: a\r\n", 400),
        (b"Host: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n", 400),
        (b"Host: h\r\nContent-Length: -1\r\n", 400),
        (b"Host: h\r\nTransfer-Encoding: gzip, chunked\r\n", 501),
    ],
    ids=["no Host", "two Hosts", "two lengths", "a negative length", "an unknown coding"],
)
async def test_headers_that_contradict_http_are_refused(headers: bytes, status: int) -> None:
    assert await refusal(b"GET / HTTP/1.1\r\n" + headers + b"\r\n") == status


async def test_an_error_does_not_have_the_line_that_is_wrong() -> None:
    # Who mistypes a header with a password must not find it in the log.
    with unix_pair() as (sock, client):
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization : Basic c2VjcmV0\r\n\r\n")
        with pytest.raises(HeadError) as caught:
            await Front(Transport(sock)).next_request()
        assert "c2VjcmV0" not in str(caught.value)
        assert "illegal header line" in str(caught.value)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: xn--0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: caf\xe9 \xff\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: folded\r\n  over two lines\r\n\r\n",
        b"GET / HTTP/1.1\nHost: h\n\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
    ],
    ids=[
        "HTTP/1.0",
        "a Host that is no IDNA",
        "an empty Host",
        "header bytes that are not ASCII",
        "a folded header",
        "bare line feeds",
        "a length and chunks",
        "OPTIONS",
        "CONNECT",
    ],
)
async def test_odd_requests_are_answered_once_and_hurt_nobody(head: bytes) -> None:
    (response, body), rest = await exchange(head + GET)
    assert (response.status_code, body) == (404, b"Not found")
    assert not rest  # one response, however many requests one may see in it


async def test_http_1_0_has_no_upgrades() -> None:
    # RFC 9110 section 7.8: a server must ignore the field there.
    head = b"GET / HTTP/%s\r\nHost: h\r\nUpgrade: websocket\r\n\r\n"
    assert asks_for_websocket(await receive(head % b"1.1"))
    assert not asks_for_websocket(await receive(head % b"1.0"))


# ---- a response


async def exchange(sent: bytes) -> tuple[tuple[h11.Response, bytes], bytes]:
    """Send all of `sent` and its end to a front, and return what h11 reads of the answer.

    The second item is what came behind the response.
    """
    with unix_pair() as (sock, client):
        await send_all(client, sent)
        client.shutdown(1)
        try:
            await respond(
                Transport(sock), await Front(Transport(sock)).next_request(), "0.0.0-test"
            )
        except HeadError as error:
            await respond_error(Transport(sock), error.status)
        sock.close()
        answer = await receive_rest(client)
    parser = h11.Connection(h11.CLIENT)
    # Which body a response has depends on whether the request was a HEAD.
    method = "HEAD" if sent.startswith(b"HEAD ") else "GET"
    parser.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(answer)
    parser.receive_data(b"")
    response = parser.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while isinstance(event := parser.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    return (response, body), parser.trailing_data[0]


def request_to(target: bytes, method: bytes = b"GET") -> bytes:
    return method + b" " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        (b"/health", 200, b"OK\n"),
        (b"/health?x=/version", 200, b"OK\n"),
        (b"http://example.com:8080/health", 200, b"OK\n"),
        (b"HTTP://example.com/health?x", 200, b"OK\n"),
        (b"/version", 200, b"0.0.0-test"),
        (b"/version?", 200, b"0.0.0-test"),
        (b"/", 404, b"Not found"),
        (b"/?/health", 404, b"Not found"),
        (b"/health/", 404, b"Not found"),
        (b"/Health", 404, b"Not found"),
        (b"//health", 404, b"Not found"),
        (b"/%68ealth", 404, b"Not found"),
        (b"http://example.com", 404, b"Not found"),
        (b"http://health", 404, b"Not found"),
        (b"/x/http://h/health", 404, b"Not found"),
    ],
)
async def test_there_are_two_pages_and_no_other(target: bytes, status: int, body: bytes) -> None:
    (response, got), _ = await exchange(request_to(target))
    assert (response.status_code, got) == (status, body)
    headers = dict(response.headers)
    assert headers[b"content-type"].startswith(b"text/plain")
    assert headers[b"content-length"] == str(len(body)).encode()
    assert headers[b"connection"] == b"close"


@pytest.mark.parametrize(
    ("method", "target"),
    [
        (b"GET", b"health"),
        (b"GET", b"*"),
        (b"GET", b"?x"),
        (b"GET", b"example.com:80"),
        (b"GET", b"ftp://example.com/"),
        (b"GET", b"http:/example.com/"),
        (b"GET", b"http:///path"),
        (b"GET", b"http://:80/"),
        (b"GET", b"http://user@example.com/"),
        (b"GET", b"http://a,b/"),
        (b"GET", b"http://a;b/"),
        (b"GET", b"http://a:port/"),
        (b"GET", b"\\health"),
        (b"OPTIONS", b"*/x"),
        (b"POST", b"*"),
    ],
)
async def test_what_is_no_path_and_no_http_uri_is_no_target(method: bytes, target: bytes) -> None:
    assert await refusal(request_to(target, method)) == 400


@pytest.mark.parametrize(
    ("target", "origin_form"),
    [
        (b"*", b"*"),
        (b"http://example.com", b"*"),
        (b"http://example.com/", b"/"),
        (b"http://example.com?x", b"/?x"),
    ],
)
async def test_options_is_for_a_path_or_for_the_whole_server(
    target: bytes, origin_form: bytes
) -> None:
    assert (await receive(request_to(target, b"OPTIONS"))).origin_form == origin_form


@pytest.mark.parametrize(
    "host",
    [
        *(b"a/b", b"/", b"user@a", b"a,b", b"a, b", b"a;b", b"a b", b"a\\b", b"a?b", b"a#b"),
        *(b"<a>", b"a:80:81", b"a:x", b"[::1", b"::1", b"[x]", b"[::1]x", b'"a"', b"a:123456"),
    ],
)
async def test_what_is_no_host_is_a_bad_request(host: bytes) -> None:
    assert await refusal(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n") == 400


@pytest.mark.parametrize(
    "host",
    [
        *(b"a", b"a.example.", b"a:80", b"a:", b"under_score", b"127.0.0.1:8080", b"[::1]"),
        *(b"[::1]:80", b"[fe80::1%25eth0]:80", b"xn--0", "пример.рф".encode(), b"a%20b", b""),
    ],
)
async def test_what_is_a_host_is_taken(host: bytes) -> None:
    request = await receive(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert request.values(b"host") == [host]


@pytest.mark.parametrize(
    "head",
    [
        b"GET http://right.example:81/x HTTP/1.1\r\nHost: wrong.example\r\n\r\n",
        b"GET HTTP://right.example:81/x HTTP/1.1\r\nHost: \r\n\r\n",
        b"GET http://right.example:81/x HTTP/1.0\r\n\r\n",
    ],
)
async def test_the_host_in_the_target_is_the_one_that_counts(head: bytes) -> None:
    request = await receive(head)
    assert request.values(b"host") == [b"right.example:81"]
    assert request.origin_form == b"/x"


@pytest.mark.parametrize("cut", [0, 1, 5, 8, 9, 10, 14])
async def test_raw_bytes_in_a_target_are_the_encoded_ones(cut: int) -> None:
    head = "GET /é?q=ü HTTP/1.1\r\nHost: h\r\nX: é\r\n\r\n".encode()
    request = await receive(head[:cut], head[cut:] + b"b\xc3\xa9hind")
    assert request.target == b"/%C3%A9?q=%C3%BC"
    assert request.values(b"x") == ["é".encode()]
    assert request.early == b"b\xc3\xa9hind"


async def test_raw_bytes_count_as_the_encoded_ones_however_they_come() -> None:
    head = b"GET /" + b"\xff" * (MAX_HEAD // 3) + b" HTTP/1.1\r\nHost: h\r\n\r\n"
    assert await refusal(head) == 431
    assert await refusal(head[:100], head[100:]) == 431


async def test_chunks_in_http_1_0_are_a_bad_request() -> None:
    # RFC 9112 section 6.1: nobody knows where such a message ends.
    head = b"POST / HTTP/%s\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert await refusal(head % b"1.0") == 400
    assert (await receive(head % b"1.1")).method == b"POST"


@pytest.mark.parametrize("version", [b"2.0", b"0.9", b"3.0"])
async def test_other_versions_of_http_are_said_to_be_unknown(version: bytes) -> None:
    assert await refusal(b"GET / HTTP/" + version + b"\r\nHost: h\r\n\r\n") == 505


async def test_very_many_headers_are_too_many() -> None:
    head = b"GET / HTTP/1.1\r\nHost: h\r\n" + b"a:\r\n" * MAX_FIELDS + b"\r\n"
    assert await refusal(head) == 431


@pytest.mark.parametrize(("target", "size"), [(b"/health", 3), (b"/version", 10), (b"/x", 9)])
async def test_head_is_answered_without_the_body(target: bytes, size: int) -> None:
    (response, body), rest = await exchange(request_to(target, b"HEAD"))
    assert body == rest == b""
    assert dict(response.headers)[b"content-length"] == str(size).encode()


async def test_a_request_that_cannot_be_parsed_gets_a_400() -> None:
    (response, body), _ = await exchange(b"GET / HTTP/1.1\r\n\r\n")
    assert (response.status_code, body) == (400, b"Bad Request\n")


async def test_respond_returns_the_status() -> None:
    for target, status in ((b"/health", HTTPStatus.OK), (b"/x", HTTPStatus.NOT_FOUND)):
        with unix_pair() as (sock, client):
            client.shutdown(1)
            assert await respond(Transport(sock), Request(b"GET", target, (), b""), "v") is status


async def test_a_body_that_nobody_reads_does_not_cost_the_response() -> None:
    body = b"x" * (MAX_DRAINED - 20_000)
    post = b"POST /health HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body)
    with tcp_pair() as (sock, client):
        await send_all(client, post + body)

        async def front() -> None:
            await respond(Transport(sock), await Front(Transport(sock)).next_request(), "v")
            sock.close()  # with something unread, this would be a reset

        async with trio.open_nursery() as nursery:
            nursery.start_soon(front)
            await trio.testing.wait_all_tasks_blocked()
            client.shutdown(1)
        assert (await receive_rest(client)).endswith(b"\r\n\r\nOK\n")


async def test_a_body_without_an_end_is_not_read_for_ever() -> None:
    with unix_pair() as (sock, client):
        taken = 0

        async def pour() -> None:
            nonlocal taken
            while True:
                await send_all(client, b"x" * 1024)
                taken += 1024

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pour)
            await respond(Transport(sock), REQUEST, "v")
            nursery.cancel_scope.cancel()
        kernel = 1024 * 1024  # what may wait in the socket, at the most
        assert MAX_DRAINED <= taken < MAX_DRAINED + kernel


async def test_a_client_that_stays_is_left_after_ten_seconds(autojump: object) -> None:
    with unix_pair() as (sock, client):
        await respond(Transport(sock), REQUEST, "v")
        assert trio.current_time() == pytest.approx(HEAD_TIMEOUT)
        assert waiting(client).endswith(b"Not found")


async def test_a_client_that_reads_to_the_end_keeps_nobody_waiting(autojump: object) -> None:
    with unix_pair() as (sock, client):

        async def take() -> None:
            assert (await receive_rest(client)).endswith(b"Not found")
            client.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await respond(Transport(sock), REQUEST, "v")
        assert trio.current_time() == 0


async def test_a_client_that_takes_nothing_is_left_after_ten_seconds(autojump: object) -> None:
    with unix_pair() as (sock, _):
        with pytest.raises(BlockingIOError):
            while True:
                sock.send(b"x" * 4096)
        await respond(Transport(sock), REQUEST, "v")
        assert trio.current_time() == pytest.approx(HEAD_TIMEOUT)


async def test_a_client_that_has_gone_is_no_error() -> None:
    with unix_pair() as (sock, client):
        client.close()
        assert await respond(Transport(sock), REQUEST, "v") == 404
