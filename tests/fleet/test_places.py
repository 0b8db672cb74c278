"""The names of places."""

from __future__ import annotations

import pytest

from cotun_trio.fleet.places import place_name
from cotun_trio.protocol.remote import Remote


@pytest.mark.parametrize(
    ("remote", "name"),
    [
        ("R:8080:localhost:80", "tcp/0.0.0.0:8080"),
        ("R:0.0.0.0:8080:localhost:80", "tcp/0.0.0.0:8080"),
        ("R:[::]:8080:localhost:80", "tcp/0.0.0.0:8080"),
        ("R:127.0.0.1:8080:localhost:80", "tcp/127.0.0.1:8080"),
        ("R:[::ffff:127.0.0.1]:8080:localhost:80", "tcp/127.0.0.1:8080"),
        ("R:[0:0::1]:8080:localhost:80", "tcp/[::1]:8080"),
        ("R:LocalHost.:8080:localhost:80", "tcp/localhost:8080"),
        ("R:5353:1.1.1.1:53/udp", "udp/0.0.0.0:5353"),
        ("R:unix:/run/app.sock:localhost:80", "unix//run/app.sock"),
    ],
)
def test_all_spellings_of_a_place_have_one_name(remote: str, name: str) -> None:
    assert place_name(Remote.parse(remote)) == name
