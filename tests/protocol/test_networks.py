"""Networks, and the addresses in them."""

from ipaddress import ip_network

import pytest

from cotun_trio.protocol.addresses import RemoteError
from cotun_trio.protocol.networks import is_within, read_network

SOME = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))


@pytest.mark.parametrize("host", ["local", "", "10.0.0.256", "[10.0.0.1]"])
def test_what_is_no_address_is_in_no_network(host: str) -> None:
    assert not is_within(host, SOME)


@pytest.mark.parametrize("host", ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1", "2001:db8::1%eth0"])
def test_an_address_is_in_its_network_however_it_is_written(host: str) -> None:
    assert is_within(host, SOME)
    assert not is_within(host, ())


@pytest.mark.parametrize("host", ["11.0.0.1", "::1", "::ffff:11.0.0.1", "::10.0.0.1"])
def test_other_addresses_are_not(host: str) -> None:
    assert not is_within(host, SOME)


def test_a_network_is_written_with_its_size_or_is_one_address() -> None:
    assert read_network("10.1.2.3/8") == SOME[0]
    assert read_network("::1") == ip_network("::1/128")
    with pytest.raises(RemoteError, match="'10/8' is no network"):
        read_network("10/8")
