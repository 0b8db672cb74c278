"""HTTP's CONNECT as transcripts."""

from __future__ import annotations

import base64

import h11
import pytest

from cotun_trio.protocol.http_connect import MAX_HEAD, ConnectHandshake
from cotun_trio.protocol.proxy_request import Command, Reply, Request, RequestError
from cotun_trio.protocol.socks5 import request

ME = ("me", "a:secret")


def connect(target: str, *fields: str, version: str = "1.1") -> bytes:
    lines = [f"CONNECT {target} HTTP/{version}", f"Host: {target}", *fields, "", ""]
    return "\r\n".join(lines).encode()


def basic(pair: str, scheme: str = "Basic") -> str:
    return f"Proxy-Authorization: {scheme} {base64.b64encode(pair.encode()).decode()}"


def read_answer(answer: bytes, method: str = "CONNECT") -> tuple[int, dict[bytes, bytes], bytes]:
    """Return the status, the fields and the body of an answer that ends its connection."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="a:1", headers=[("Host", "a:1")]))
    client.send(h11.EndOfMessage())
    client.receive_data(answer)
    head, body = client.next_event(), b""
    assert isinstance(head, h11.Response)
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert client.trailing_data == (b"", False)
    return head.status_code, dict(head.headers), body


def refusal(
    head: bytes, credentials: tuple[str, str] | None = None
) -> tuple[int, dict[bytes, bytes], str]:
    """Return the answer to a request that is refused, and the reason in the log."""
    with pytest.raises(RequestError) as caught:
        ConnectHandshake(credentials).feed(head)
    assert str(caught.value).startswith("HTTP: ")
    assert str(caught.value).isprintable()
    assert b"\r\nConnection: close\r\n" in caught.value.reply
    status, fields, body = read_answer(caught.value.reply)
    assert body.endswith(b".\n")
    return status, fields, str(caught.value)


@pytest.mark.parametrize(
    ("target", "host", "port"),
    [
        ("example.com:443", "example.com", 443),
        ("127.0.0.1:80", "127.0.0.1", 80),
        ("[::1]:65535", "::1", 65535),
        ("[fe80::1%25eth0]:22", "fe80::1%eth0", 22),
        ("xn--mnchen-3ya.de:443", "xn--mnchen-3ya.de", 443),
    ],
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_request_has_a_host_and_a_port(target: str, host: str, port: int, version: str) -> None:
    wanted = Request(Command.CONNECT, host, port, request(Command.CONNECT, host, port))
    raw = connect(target, "User-Agent: x", version=version)
    for behind in (b"", b"\x16\x03\x01early", bytes(2 * MAX_HEAD)):
        server = ConnectHandshake()
        assert server.feed(raw + behind) == wanted
        assert (server.rest, server.take_out()) == (behind, b"")
    server = ConnectHandshake()
    assert [server.feed(raw[i : i + 1]) for i in range(len(raw))][-2:] == [None, wanted]
    assert server.rest == b""


def test_old_programs_send_no_host_and_no_carriage_return() -> None:
    server = ConnectHandshake()
    wanted = server.feed(b"CONNECT a:1 HTTP/1.0\n\nSSH-2.0")
    assert wanted is not None
    assert (wanted.address, server.rest) == ("a:1", b"SSH-2.0")


@pytest.mark.parametrize(
    "target",
    [
        *("example.com", "example.com:", ":443", "a:0", "a:65536", "a:-1", "a:1:2", "::1:443"),
        *("[::1]", "me@a:1", "http://a:1", "127.1:80", "/", "*", "[a]:1", "a" * 254 + ":1"),
        "a%2e:1",
    ],
)
def test_a_target_that_is_none_is_400(target: str) -> None:
    assert refusal(connect(target))[0] == 400


@pytest.mark.parametrize(
    "head",
    [
        b"CONNECT a:1\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",  # no Host
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        b"CONNECT m\xc3\xbc:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        b"A B C D E\r\n\r\n",
        connect("a:1", "Content-Length: 5") + b"hello",
        connect("a:1", "Transfer-Encoding: chunked"),
    ],
    ids=ascii,
)
def test_a_malformed_request_is_400(head: bytes) -> None:
    assert refusal(head)[0] == 400


def test_a_password_in_a_malformed_line_is_not_shown() -> None:
    status, _, said = refusal(connect("a:1", basic("me:secret") + "\0"))
    assert (status, said) == (400, "HTTP: This is no request: illegal header line")


def test_content_of_no_length_does_no_harm() -> None:
    assert ConnectHandshake().feed(connect("a:1", "Content-Length: 0")) is not None


def test_another_version_is_505() -> None:
    assert refusal(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")[0] == 505


@pytest.mark.parametrize("size", [MAX_HEAD + 1, 3 * MAX_HEAD])
def test_a_head_that_is_too_large_is_431(size: int) -> None:
    head = connect("a:1", "X: " + "x" * (size - len(connect("a:1", "X: "))))
    assert len(head) == size
    assert refusal(head)[0] == refusal(head[: MAX_HEAD + 1])[0] == 431
    server = ConnectHandshake()
    for i in range(MAX_HEAD):
        assert server.feed(head[i : i + 1]) is None
    with pytest.raises(RequestError):
        server.feed(head[MAX_HEAD : MAX_HEAD + 1])


def test_a_head_of_just_that_size_is_taken() -> None:
    head = connect("a:1", "X: " + "x" * (MAX_HEAD - len(connect("a:1", "X: "))))
    assert len(head) == MAX_HEAD
    assert ConnectHandshake().feed(head + b"early") is not None


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "QUERY"])
def test_another_method_is_405_and_told_which_one_is_served(method: str) -> None:
    head = f"{method} http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n".encode()
    for credentials in (None, ME):
        status, fields, said = refusal(head, credentials)
        assert (status, fields[b"allow"]) == (405, b"CONNECT")
        assert method in said


def test_head_is_answered_by_a_head() -> None:
    with pytest.raises(RequestError) as caught:
        ConnectHandshake().feed(b"HEAD http://a/ HTTP/1.1\r\nHost: a\r\n\r\n")
    status, fields, body = read_answer(caught.value.reply, "HEAD")
    assert (status, body) == (405, b"")
    assert int(fields[b"content-length"])


# Logins


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC", "Basic "])
def test_who_knows_the_password_is_let_in(scheme: str) -> None:
    assert ConnectHandshake(ME).feed(connect("a:1", basic("me:a:secret", scheme))) is not None


def test_a_login_is_compared_as_utf_8_in_full() -> None:
    server = ConnectHandshake(("ü", "ß" * 100))
    assert server.feed(connect("a:1", basic("ü:" + "ß" * 100))) is not None


def test_a_listener_without_a_password_takes_any() -> None:
    assert ConnectHandshake().feed(connect("a:1", basic("who:ever"))) is not None


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ([], "no user and no password"),
        ([basic("me:a:secre")], "wrong user or password for 'me'"),
        ([basic("me:a:secrets")], "for 'me'"),
        ([basic("you:a:secret")], "for 'you'"),
        ([basic("m\ne:x")], r"for 'm\\ne'"),
        ([basic("")], "for ''"),
        (["Proxy-Authorization: Basic"], "for ''"),
        (["Proxy-Authorization: Basic ?"], "for ''"),
        (["Proxy-Authorization: Basic bWU6YTpzZWNyZXQ"], "for ''"),  # without its padding
        (["Proxy-Authorization: bWU6YTpzZWNyZXQ="], "for ''"),
        ([basic("me:a:secret", "Bearer")], "for ''"),
        ([basic("me:a:secret"), basic("me:wrong")], "for ''"),
        (["Authorization: Basic bWU6YTpzZWNyZXQ="], "no user and no password"),
    ],
)
def test_who_does_not_know_it_is_told_to_say_it(fields: list[str], told: str) -> None:
    status, answer, said = refusal(connect("a:1", *fields), ME)
    assert status == 407
    assert answer[b"proxy-authenticate"] == b'Basic realm="cotun-trio", charset="UTF-8"'
    assert told.replace("\\\\", "\\") in said
    assert "secret" not in said


# Answers


def test_a_success_is_a_head_alone() -> None:
    answer = ConnectHandshake().reply(Reply.SUCCEEDED, "1.2.3.4", 80)
    assert answer == b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.mark.parametrize("code", list(Reply)[1:])
def test_a_failure_has_a_status_and_a_text(code: Reply) -> None:
    status, fields, body = read_answer(ConnectHandshake().reply(code))
    assert status == {Reply.NOT_ALLOWED: 403, Reply.TTL_EXPIRED: 504}.get(code, 502)
    assert code.text.encode() in body
    assert fields[b"connection"] == b"close"
