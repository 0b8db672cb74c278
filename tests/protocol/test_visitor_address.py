"""The addresses of a visitor behind the target of a channel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.errors import ProtocolError
from cotun_trio.protocol.endpoints import Endpoint, Endpoints
from cotun_trio.protocol.target import Target, parse_target
from cotun_trio.protocol.visitor_address import MAX_WORDS, split_visitor, with_visitor

V4 = Endpoints(Endpoint("198.51.100.7", 56324), Endpoint("203.0.113.1", 2222))
V6 = Endpoints(Endpoint("2001:db8::7", 0), Endpoint("::1", 65535))


def test_it_stands_behind_the_target_and_there_need_be_none() -> None:
    data = b"localhost:22\0from=198.51.100.7:56324\0to=203.0.113.1:2222"
    assert with_visitor(b"localhost:22", V4) == data
    assert split_visitor(data) == (b"localhost:22", V4)
    assert with_visitor(b"localhost:22", None) == b"localhost:22"
    assert split_visitor(b"localhost:22") == (b"localhost:22", None)


ENDS = st.builds(Endpoint.of, st.ip_addresses(), st.integers(0, 65535))


@given(target=st.sampled_from([b"a:1", b"unix:/a b", b"fleet:5:R:80", b""]), source=ENDS, to=ENDS)
def test_any_addresses_come_through(target: bytes, source: Endpoint, to: Endpoint) -> None:
    endpoints = Endpoints(source, to)
    assert split_visitor(with_visitor(target, endpoints)) == (target, endpoints)


def test_words_of_a_later_version_are_skipped() -> None:
    data = with_visitor(b"a:1", V6)
    assert split_visitor(data + b"\0more=\xff=1") == (b"a:1", V6)
    assert split_visitor(b"a:1\0more=1\0from=[::1]:1\0to=[::1]:2")[1] is not None
    assert split_visitor(b"a:1\0more=") == (b"a:1", None)


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"from",
        b"from=1.2.3.4:1",
        b"to=1.2.3.4:1",
        b"from=1.2.3.4:1\0to=",
        b"from=1.2.3.4:1\0to=1.2.3.4:65536",
        b"from=1.2.3.4:1\0to=host:1",
        b"from=1.2.3.04:1\0to=1.2.3.4:1",
        b"from=1.2.3.4:1\0to=[1.2.3.4]:1",
        b"from=1.2.3.4:1\0to=::1:1",
        b"from=1.2.3.4:1\0to=[fe80::1%eth0]:1",
        b"from=1.2.3.4:\xb9\0to=1.2.3.4:1",
        b"from=1.2.3.4:1\0from=1.2.3.4:1\0to=1.2.3.4:1",
        b"from=1.2.3.4:1\0to=1.2.3.4:1\0",
        b"x=" + b"x" * MAX_WORDS,
    ],
    ids=lambda rest: ascii(rest[:40]),
)
def test_anything_else_is_a_protocol_error(rest: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        split_visitor(b"a:1\0" + rest)
    assert str(caught.value).isprintable()


def test_an_end_that_does_not_know_it_takes_it_for_no_target() -> None:
    with pytest.raises(ProtocolError):
        parse_target(with_visitor(b"localhost:22", V4))


def test_a_mapped_address_is_the_one_that_it_stands_for() -> None:
    data = b"a:1\0from=[::ffff:1.2.3.4]:1\0to=[::FFFF:0102:0304]:2"
    same = Endpoints(Endpoint("1.2.3.4", 1), Endpoint("1.2.3.4", 2))
    assert split_visitor(data) == (b"a:1", same)


def test_a_crowd_of_visitors_flushes_no_targets() -> None:
    parse_target.cache_clear()
    for port in range(1000):
        target, _ = split_visitor(
            with_visitor(b"web:80", Endpoints(Endpoint("::1", port), V4.source))
        )
        assert parse_target(target) == Target("web", 80)
    assert parse_target.cache_info().misses == 1
