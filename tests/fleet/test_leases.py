"""The lease of a node, as it sees it."""

from __future__ import annotations

import math

from cotun_trio.fleet.leases import RENEWAL, TTL, Lease


def test_a_lease_is_counted_from_when_its_renewal_was_sent() -> None:
    lease = Lease(100.0)
    assert lease.next_renewal == 100.0
    lease.sent(100.0)
    assert lease.next_renewal == math.inf
    assert not lease.is_held(100.0)
    lease.renewed()  # a second later, or two: that does not matter
    assert lease.is_held(100.0 + TTL - 0.1)
    assert not lease.is_held(100.0 + TTL)
    assert lease.next_renewal == 100.0 + RENEWAL


def test_two_renewals_can_fail_and_the_lease_is_held() -> None:
    lease = Lease(0.0)
    lease.sent(0.0)
    lease.renewed()
    waits, now = [], RENEWAL
    for _ in range(4):
        lease.sent(now)
        lease.failed(now)
        waits.append(lease.next_renewal - now)
        now = lease.next_renewal
    assert waits == [1.0, 2.0, 3.0, 3.0]
    assert RENEWAL + waits[0] + waits[1] < TTL


def test_it_can_be_renewed_at_once_but_not_twice_at_a_time() -> None:
    lease = Lease(0.0)
    lease.sent(0.0)
    lease.renew_at_once()
    assert lease.next_renewal == math.inf
    lease.renewed()
    lease.renew_at_once()
    assert lease.next_renewal == -math.inf
