"""Answers that are not the one that was wanted: what they are, and what to do."""

from __future__ import annotations

import pytest

from cotun_trio.protocol.http_answer import (
    MAX_RETRY_AFTER,
    MAX_SSH_LINE,
    MAX_TITLE,
    advice,
    members,
    read_fields,
    retry_after,
    schemes,
    title,
    what_it_is,
)


def fields(*lines: str) -> tuple[tuple[bytes, bytes], ...]:
    return read_fields("\r\n".join(("HTTP/1.1 200 OK", *lines, "", "")).encode())


def test_fields_are_read_as_far_as_they_can_be() -> None:
    head = b"HTTP/1.1 200 OK\r\nA: 1\r\nno colon\r\nB:2 \r\n folded\r\nc : 3\r\nD:\r\n\r\n"
    assert read_fields(head) == ((b"a", b"1"), (b"b", b"2"), (b"d", b""))
    assert read_fields(head.replace(b"\r\n", b"\n")) == read_fields(head)


def test_a_list_may_come_in_several_lines() -> None:
    assert members(fields("A: x, ,y", "B: 1", "a: z", "A:"), b"a") == [b"x", b"y", b"z"]


@pytest.mark.parametrize("data", [b"", b"H", b"HTTP", b"HTTP/", b"HTTP/1.1 200", b"S", b"SSH-2"])
def test_what_may_still_become_http_is_waited_for(data: bytes) -> None:
    assert what_it_is(data) is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "the server speaks SSH (SSH-2.0-OpenSSH_9.6)"),
        (b"SSH-" + b"x" * MAX_SSH_LINE, "the server speaks SSH"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "speaks TLS: write https://"),
        (b"\x15", "speaks TLS"),
        (b"\x16\x03\x03", "speaks TLS"),
        (b"220 mail.example.com ESMTP\r\n", "begins with '220 mail.example.com ESMTP'"),
        (b"\0\1\xff", r"begins with '\x00\x01\xff'"),
        (b"HTTPS/1.1", "does not speak HTTP"),
        (b"\r\n\r\n", "does not speak HTTP"),
    ],
)
def test_what_is_no_http_is_named(data: bytes, text: str) -> None:
    said = what_it_is(data)
    assert said is not None
    assert text in said
    assert said.isprintable()
    assert len(said) < 1000


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("Basic", ["Basic"]),
        ('Basic realm="inside"', ["Basic"]),
        ('Basic realm="a, Digest x=y", charset="UTF-8"', ["Basic"]),
        ('Negotiate, NTLM, Basic realm="x"', ["Negotiate", "NTLM", "Basic"]),
        ("Bearer realm=x, error=invalid_token", ["Bearer"]),
        ("NTLM TlRMTVNTUAACAAAA==", ["NTLM"]),
        ("", []),
        ("\x1b[31m", []),
    ],
)
def test_the_schemes_of_a_challenge_are_known(value: str, names: list[str]) -> None:
    assert schemes(fields("WWW-Authenticate: " + value), b"www-authenticate") == names


def test_the_schemes_of_several_lines_are_known_once_each() -> None:
    lines = ("WWW-Authenticate: Negotiate", "WWW-Authenticate: NTLM", "WWW-Authenticate: NTLM")
    assert schemes(fields(*lines), b"www-authenticate") == ["Negotiate", "NTLM"]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        (["Retry-After: 30"], 30.0),
        (["Retry-After: 0"], 0.0),
        (["Retry-After: 99999999999999999999"], MAX_RETRY_AFTER),
        (
            ["Date: Sun, 06 Nov 1994 08:49:37 GMT", "Retry-After: Sun, 06 Nov 1994 08:50:07 GMT"],
            30.0,
        ),
        (
            ["Date: Sun, 06 Nov 1994 08:49:37 GMT", "Retry-After: Sun, 06 Nov 1994 08:00:00 GMT"],
            0.0,
        ),
        (["Retry-After: Sun, 06 Nov 1994 08:50:07 GMT"], None),
        (["Retry-After: -1"], None),
        (["Retry-After: soon"], None),
        (["Retry-After: \u0663"], None),
        (["Retry-After:"], None),
        ([], None),
    ],
)
def test_retry_after_is_a_number_or_a_date(
    status: int, lines: list[str], seconds: float | None
) -> None:
    assert retry_after(status, fields(*lines)) == seconds


def test_retry_after_is_for_a_server_that_is_busy() -> None:
    assert retry_after(301, fields("Retry-After: 30")) is None


@pytest.mark.parametrize(
    ("status", "lines", "body", "text"),
    [
        *[
            (status, ["Location: https://b.example/x"], b"", "points to https://b.example/x")
            for status in (301, 302, 303, 307, 308)
        ],
        (302, [], b"", ""),
        (302, ["Location: \x1b[31m"], b"", r"points to \x1b[31m"),
        (401, ['WWW-Authenticate: Basic realm="x"'], b"", "a login by HTTP (Basic)"),
        (401, [], b"", "a login by HTTP"),
        (403, ["WWW-Authenticate: Negotiate"], b"", "a login by HTTP (Negotiate)"),
        (403, [], b"", "a firewall may want another --header"),
        (407, ["Proxy-Authenticate: NTLM"], b"", "a proxy wants a login (NTLM)"),
        (429, ["Retry-After: 90"], b"", "too many requests, try again after 1m30s"),
        (503, ["Retry-After: 5"], b"", "it is not available now, try again after 5s"),
        (503, [], b"", "it is not available now: is the server behind it running"),
        (200, ["Content-Type: text/html; charset=utf-8"], b"", "a web page, perhaps one to log in"),
        (200, ["Content-Type: text/plain"], b"OK", "a web server answers, and no tunnel"),
        (400, [], b"The plain HTTP request was sent to HTTPS port", "write https://"),
        (400, [], b"Client sent an HTTP request to an HTTPS server.", "write https://"),
        (400, [], b"You're speaking plain HTTP to an SSL-enabled server port.", "write https://"),
        (400, [], b"Plain HTTP was sent to a TLS port: write", "write https://"),
        (400, [], b"Bad Request", ""),
        (502, [], b"", "does not reach the server behind it"),
        (502, ["Server: cloudflare"], b"", "does not reach the server behind it"),
        (404, [], b"<h1>Not found</h1>", "no tunnel at this path"),
        (404, [], b"Not found", "saw no request for its tunnel: is the path"),
        (426, [], b"", "without its headers for a WebSocket: does each proxy"),
        (511, [], b"", "the network wants a login first"),
        (403, ["Server: cloudflare"], b"", "Cloudflare is in front of the server, and one"),
        (406, ["X-Iinfo: 1-2"], b"", "Imperva is in front of the server"),
        (403, ["Server: cloudflare", "WWW-Authenticate: Basic"], b"", "a login by HTTP (Basic)"),
        (429, [], b"", "too many requests: a cotun-trio server bars an address"),
        (418, [], b"", ""),
    ],
)
def test_an_answer_says_what_to_do(status: int, lines: list[str], body: bytes, text: str) -> None:
    said = advice(status, fields(*lines), body)
    assert text in said
    assert bool(said) == bool(text)
    assert said.isprintable()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html><head><TITLE lang=en>Log \n in</TITLE>", "Log in"),
        (b"<title>cut of", "cut of"),
        (b"<h1>404</h1> <p>Nothing\there</p>", "404 Nothing here"),
        (b"Not found", "Not found"),
        (b"\x1b[2Jboo\xff", r"\x1b[2Jboo\xff"),
        (b"", ""),
    ],
)
def test_a_page_is_shown_by_its_title_or_first_words(body: bytes, words: str) -> None:
    assert title(body) == words
    assert len(title(body * 1000)) <= 10 * (MAX_TITLE + 1)


@pytest.mark.parametrize("body", [b"<" * 1_000_000, b"<title" * 200_000])
def test_of_a_long_page_only_the_beginning_is_read(body: bytes) -> None:
    assert len(title(body)) <= MAX_TITLE + 1
