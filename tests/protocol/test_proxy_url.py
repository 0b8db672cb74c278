"""Proxies as users write them, and as the environment names them."""

from __future__ import annotations

import pytest

from cotun_trio.errors import UsageError
from cotun_trio.protocol.proxy_url import ProxyUrl, proxy_from_environment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://proxy", ProxyUrl("http", "proxy", 80)),
        ("proxy:3128", ProxyUrl("http", "proxy", 3128)),
        ("HTTP://Proxy:3128/", ProxyUrl("http", "proxy", 3128)),
        ("https://proxy", ProxyUrl("https", "proxy", 443)),
        ("socks://10.0.0.1", ProxyUrl("socks", "10.0.0.1", 1080)),
        ("socks5://proxy:1", ProxyUrl("socks5", "proxy", 1)),
        ("socks5h://[::1]:1", ProxyUrl("socks5h", "::1", 1)),
        ("http://[fe80::1%25eth0]:1", ProxyUrl("http", "fe80::1%eth0", 1)),
        ("http://proxy.:1", ProxyUrl("http", "proxy.", 1)),
        ("http://a:b@proxy", ProxyUrl("http", "proxy", 80, "a", "b")),
        ("http://a@proxy", ProxyUrl("http", "proxy", 80, "a")),
        ("http://a%40b:c%3a%2f@proxy", ProxyUrl("http", "proxy", 80, "a@b", "c:/")),
    ],
)
def test_a_proxy_is_read_as_a_url(text: str, expected: ProxyUrl) -> None:
    assert ProxyUrl.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://",
        "ftp://hunter2@proxy",
        "socks4://proxy",
        "http://proxy:hunter2",
        "http://proxy:0",
        "http://proxy:99999",
        "http://proxy/hunter2",
        "http://proxy?hunter2",
        "http://proxy#hunter2",
        "http://[::1",
        "http://a:hunter2%0d%0a@proxy",
        "http://a%3ab:hunter2@proxy",
        "http://127.1:80",
        "http://exa mple",
    ],
)
def test_a_text_that_is_no_proxy_url_is_the_users_error_which_shows_no_password(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        ProxyUrl.parse(text)
    assert "hunter2" not in str(caught.value)


def test_a_proxy_is_shown_without_its_password() -> None:
    proxy = ProxyUrl.parse("socks5h://alice:hunter2@[::1]")
    assert str(proxy) == "socks5h://[::1]:1080"
    assert "hunter2" not in repr(proxy)


@pytest.mark.parametrize(
    ("environment", "tls", "expected"),
    [
        ({}, False, None),
        ({"HTTP_PROXY": "a"}, False, "http://a:80"),
        ({"HTTP_PROXY": "a"}, True, None),
        ({"HTTPS_PROXY": "a"}, True, "http://a:80"),
        ({"HTTPS_PROXY": "a"}, False, None),
        ({"ALL_PROXY": "socks5h://a"}, True, "socks5h://a:1080"),
        ({"ALL_PROXY": "a", "HTTP_PROXY": "b"}, False, "http://b:80"),
        ({"http_proxy": "a", "HTTP_PROXY": "b"}, False, "http://a:80"),
        ({"http_proxy": "", "HTTP_PROXY": "b"}, False, "http://b:80"),
        ({"HTTP_PROXY": "a", "NO_PROXY": "*"}, False, None),
        ({"HTTP_PROXY": "a", "NO_PROXY": "other, example.com"}, False, None),
        ({"HTTP_PROXY": "a", "NO_PROXY": ".example.com"}, False, None),
        ({"HTTP_PROXY": "a", "NO_PROXY": "Example.com"}, False, None),
        ({"HTTP_PROXY": "a", "NO_PROXY": "ample.com"}, False, "http://a:80"),
        ({"HTTP_PROXY": "a", "no_proxy": "other", "NO_PROXY": "*"}, False, "http://a:80"),
    ],
)
def test_the_environment_is_read_as_by_curl(
    environment: dict[str, str], tls: bool, expected: str | None
) -> None:
    proxy = proxy_from_environment(environment, "www.example.com", tls=tls)
    assert (proxy and str(proxy)) == expected


def test_a_final_dot_makes_no_other_name_of_it() -> None:
    environment = {"ALL_PROXY": "a", "NO_PROXY": "example.com"}
    assert proxy_from_environment(environment, "www.example.com.", tls=True) is None


@pytest.mark.parametrize(
    ("host", "excepted"),
    [("10.1.2.3", True), ("11.1.2.3", False), ("2001:db8::1", True), ("2001:db9::1", False)],
)
def test_networks_can_be_excepted(host: str, excepted: bool) -> None:
    environment = {"ALL_PROXY": "a", "NO_PROXY": "x, 10.0.0.0/8,2001:db8::/32"}
    assert (proxy_from_environment(environment, host, tls=True) is None) == excepted


def test_a_bad_variable_is_named() -> None:
    with pytest.raises(UsageError, match=r"^https_proxy: this is no proxy's URL"):
        proxy_from_environment({"https_proxy": "ftp://x"}, "example.com", tls=True)
