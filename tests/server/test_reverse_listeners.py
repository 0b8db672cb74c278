"""`cotun_trio.server.reverse_listeners`, with owners that a test holds in its hands."""

from __future__ import annotations

import pytest
import trio

from cotun_trio.errors import NotNow
from cotun_trio.net.names import share_of
from cotun_trio.protocol.remote import Remote
from cotun_trio.server.reverse_listeners import Listeners
from tests.support.ends import is_free
from tests.support.leaks import nothing_left
from tests.support.targets import free_port


class FakeOwner:
    """An `Owner`; `alive` says what it does when asked."""

    def __init__(
        self,
        listeners: Listeners,
        user: str | None = None,
        identity: str = "",
        *,
        alive: bool = False,
    ) -> None:
        self.listeners = listeners
        self.user_name = user
        self.identity = identity
        self.alive = alive
        self.share = share_of(identity)
        self.replaced = self.asked = 0

    async def is_alive(self, timeout: float) -> bool:
        """See `Owner`."""
        self.asked += 1
        await trio.lowlevel.checkpoint()
        return self.alive

    def replace(self) -> None:
        """See `Owner`."""
        self.replaced += 1
        self.listeners.free(self)


def remote(port: int, more: str = "") -> Remote:
    return Remote.parse(f"R:127.0.0.1:{port}:127.0.0.1:1{more}")


@pytest.mark.parametrize(
    ("old", "new", "alive", "gets_it"),
    [
        pytest.param((None, "aa"), (None, "aa"), True, True, id="same identity"),
        pytest.param((None, "aa"), (None, "bb"), False, False, id="other identity"),
        pytest.param((None, ""), (None, ""), False, False, id="no identity"),
        pytest.param(("ann", "aa"), ("ann", "bb"), False, True, id="same user, old one dead"),
        pytest.param(("ann", "aa"), ("ann", "bb"), True, False, id="same user, old one alive"),
        pytest.param(("ann", ""), ("ann", ""), False, True, id="same user, Go clients, dead"),
        pytest.param(("ann", "aa"), ("ann", "aa"), True, True, id="same user and identity"),
        pytest.param(("ann", "aa"), ("bob", "aa"), False, False, id="other user, stolen identity"),
        pytest.param(("ann", ""), ("bob", ""), False, False, id="other user"),
        pytest.param(("", ""), ("", ""), False, True, id="the user with the empty name"),
        pytest.param(("ann", "aa"), (None, "aa"), False, False, id="no user any more"),
    ],
)
async def test_who_gets_a_port_that_is_held(
    old: tuple[str | None, str], new: tuple[str | None, str], alive: bool, gets_it: bool
) -> None:
    port = free_port()
    async with nothing_left():
        listeners = Listeners()
        holder = FakeOwner(listeners, *old, alive=alive)
        comer = FakeOwner(listeners, *new)
        await listeners.open(holder, [remote(port)])
        if gets_it:
            (listener,) = await listeners.open(comer, [remote(port)])
            assert listener.addresses == [f"127.0.0.1:{port}"]
        else:
            with pytest.raises(NotNow, match=f"127.0.0.1:{port}"):
                await listeners.open(comer, [remote(port)])
        assert holder.replaced == gets_it
        assert not is_free(port)
        listeners.free(holder)
        listeners.free(comer)
        assert is_free(port)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[::1]", "0.0.0.0"),
        ("0.0.0.0", "[::1]"),
        ("127.0.0.1", "[::]"),
        ("[::]", "127.0.0.1"),
        ("[::]", "0.0.0.0"),
        ("[0:0::0]", "[::1]"),
        ("[0::1]", "[::1]"),
    ],
)
async def test_all_interfaces_are_in_the_way_of_each_address_of_both_families(
    old: str, new: str
) -> None:
    port = free_port()
    listeners = Listeners()
    holder, stranger, same = (FakeOwner(listeners, None, name) for name in ("aa", "bb", "aa"))
    first, second = (Remote.parse(f"R:{host}:{port}:127.0.0.1:1") for host in (old, new))
    async with nothing_left():
        await listeners.open(holder, [first])
        with pytest.raises(NotNow):
            await listeners.open(stranger, [second])
        assert not holder.replaced
        await listeners.open(same, [second])
        assert holder.replaced
        listeners.free(same)


async def test_a_port_that_another_program_holds_costs_nobody_the_session() -> None:
    port = free_port()
    listeners = Listeners()
    holder, comer = FakeOwner(listeners, "ann"), FakeOwner(listeners, "bob")
    await listeners.open(holder, [remote(0)])
    with trio.socket.socket() as other:
        await other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(NotNow):
            await listeners.open(comer, [remote(port)])
    assert not holder.asked
    assert not holder.replaced
    listeners.free(holder)


async def test_the_same_number_of_tcp_and_of_udp_are_different_ports() -> None:
    port = free_port()
    listeners = Listeners()
    first, second = FakeOwner(listeners), FakeOwner(listeners)
    await listeners.open(first, [remote(port)])
    await listeners.open(second, [remote(port, "/udp")])
    assert listeners.held_by(first)
    assert listeners.held_by(second)
    listeners.free(first)
    listeners.free(second)


async def test_an_owner_that_ends_while_it_waits_for_its_ports_gets_none() -> None:
    first, second = free_port(), free_port()

    class Ending(FakeOwner):
        async def is_alive(self, timeout: float) -> bool:
            self.listeners.free(comer)  # as `ServerSession.fail` does
            return False

    async with nothing_left():
        listeners = Listeners()
        holder, comer = Ending(listeners, "ann"), FakeOwner(listeners, "ann")
        await listeners.open(holder, [remote(second)])
        with pytest.raises(NotNow):
            await listeners.open(comer, [remote(first), remote(second)])
        assert is_free(first)
        assert is_free(second)


async def test_freeing_twice_does_no_harm() -> None:
    listeners = Listeners()
    owner = FakeOwner(listeners)
    await listeners.open(owner, [remote(0)])
    listeners.free(owner)
    listeners.free(owner)
    assert not listeners.held_by(owner)
