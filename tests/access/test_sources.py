"""Sources: the address or network that a connection counts for."""

from __future__ import annotations

import pytest

from cotun_trio.access.sources import source_of


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:201", "192.0.2.1"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("local", "local"),
        ("", ""),
        ("not:an:address", "not:an:address"),
    ],
)
def test_an_ipv4_address_or_64_bits_of_an_ipv6_one_are_a_source(host: str, source: str) -> None:
    assert source_of(host) == source
