"""`Rights` as a table: what a user may have, by settings, access list, hook and time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio

from cotun_trio.access.access_list import AccessList
from cotun_trio.access.passwords import Secret
from cotun_trio.access.users import User
from cotun_trio.errors import ConfigRefused, NotNow, Refused
from cotun_trio.forwards.flows import Flows
from cotun_trio.forwards.quota import Quota
from cotun_trio.logs import get_logger
from cotun_trio.protocol.remote import Remote
from cotun_trio.protocol.target import parse_target
from cotun_trio.server.authorisation import Authorisation
from cotun_trio.server.rights import Rights
from cotun_trio.settings import ServerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.forwards.flows import Flow

LOG = get_logger("server")
ALL_ON = {"reverse": True, "socks5": True, "unix": True}


def rights_of(
    *patterns: str, hook: Callable[[str, str, str], Any] | None = None, **settings: bool
) -> Rights:
    """Return the rights of alice, who has logged in and has remotes."""
    authorisation = None if hook is None else Authorisation(hook)
    rights = Rights(ServerSettings(**settings), "192.0.2.1", authorisation)
    rights.log_in(alice(*patterns))
    rights.accept()
    return rights


def alice(*patterns: str) -> User:
    return User("alice", Secret.parse("secret"), AccessList(patterns))


def connected(uses: str | Remote, *, by_socks: str | None = None) -> Flow:
    """Return a connection that runs."""
    target = parse_target(uses.encode()) if isinstance(uses, str) else uses
    running = Flows(Quota(0)).begin(target)
    return attrs.evolve(
        running, by_socks=None if by_socks is None else parse_target(by_socks.encode())
    )


def test_before_the_login_there_are_no_rights() -> None:
    rights = Rights(ServerSettings(**ALL_ON), "192.0.2.1", None)
    rights.accept()
    assert rights.user is None
    assert rights.refuses(parse_target(b"db:5432")) == "access to 'db:5432' denied"
    assert not rights.allows(Remote.parse("R:80"))
    assert not rights.allows_by_socks(parse_target(b"db:5432"))
    with pytest.raises(ConfigRefused, match=r"^access to 'db:5432' denied$"):
        rights.check_remotes([Remote.parse("5432:db:5432")])


def test_no_channel_comes_before_the_remotes_are_accepted() -> None:
    rights = Rights(ServerSettings(), "192.0.2.1", None)
    rights.log_in(alice(""))
    early = "no channel before the config request is accepted"
    assert rights.refuses(parse_target(b"db:5432")) == early
    rights.accept()
    assert rights.refuses(parse_target(b"db:5432")) is None


@pytest.mark.parametrize(
    ("remote", "option", "refusal"),
    [
        ("80:web:80", None, None),
        ("53:dns:53/udp", None, None),
        ("R:80:web:80", "reverse", "Reverse port forwarding not enabled on server"),
        ("socks", "socks5", "SOCKS5 is not enabled on server"),
        ("R:socks", "reverse", "Reverse port forwarding not enabled on server"),
        ("80:unix:/run/a", "unix", "Unix sockets are not enabled on server"),
        ("unix:/run/here:web:80", None, None),
    ],
)
def test_a_remote_that_is_off_by_default_takes_its_option(
    remote: str, option: str | None, refusal: str | None
) -> None:
    asked = [Remote.parse(remote)]
    if refusal is not None:
        with pytest.raises(ConfigRefused, match=f"^{refusal}$"):
            rights_of("").check_remotes(asked)
    options = {} if option is None else {option: True}
    rights_of("", **options).check_remotes(asked)


@pytest.mark.parametrize(
    ("target", "option", "refusal"),
    [
        ("socks", "socks5", "SOCKS5 is not enabled"),
        ("unix:/run/a", "unix", "Unix sockets are not enabled"),
    ],
)
def test_a_target_that_is_off_by_default_takes_its_option(
    target: str, option: str, refusal: str
) -> None:
    asked = parse_target(target.encode())
    assert rights_of("").refuses(asked) == refusal
    assert rights_of("", **{option: True}).refuses(asked) is None


@pytest.mark.parametrize(
    ("patterns", "asked", "allowed"),
    [
        (["^db:5432$"], "5432:db:5432", True),
        (["^db:5432$"], "5432:db:5433", False),
        (["^R:0.0.0.0:80$"], "R:80:anywhere:1", True),
        (["^R:0.0.0.0:80$"], "R:81:anywhere:1", False),
        (["^socks$"], "socks", True),
        ([], "socks", False),
    ],
)
def test_the_access_list_decides(patterns: list[str], asked: str, allowed: bool) -> None:
    rights = rights_of(*patterns, **ALL_ON)
    remote = Remote.parse(asked)
    assert rights.allows(remote) is allowed
    if not remote.reverse:
        assert (rights.refuses(remote.target) is None) is allowed


def test_datagrams_of_a_socks_association_go_where_socks_may_go() -> None:
    rights = rights_of("^socks$", "socks:^dns:53$", **ALL_ON)
    assert rights.refuses(parse_target(b"dns:53/udp")) is None
    assert rights.refuses(parse_target(b"dns:53")) == "access to 'dns:53' denied"
    assert rights.refuses(parse_target(b"dns:54/udp")) == "access to 'dns:54' denied"
    without = rights_of("^socks$", "socks:^dns:53$")
    assert without.refuses(parse_target(b"dns:53/udp")) == "access to 'dns:53' denied"


@pytest.mark.parametrize(
    ("uses", "by_socks", "goes_on"),
    [
        ("db:5432", None, True),
        ("web:80", None, False),
        (Remote.parse("R:80:x:1"), None, True),
        (Remote.parse("R:81:x:1"), None, False),
        ("socks", "db:5432", False),
        ("socks", "mail:25", True),
    ],
)
def test_after_a_change_goes_on_what_the_list_still_has(
    uses: str | Remote, by_socks: str | None, goes_on: bool
) -> None:
    rights = rights_of("", **ALL_ON)
    forward = connected(uses, by_socks=by_socks)
    assert rights.still_allows(forward)
    rights.log_in(alice("^db:5432$", "^R:0.0.0.0:80$", "^socks$", "socks:^mail:25$"))
    assert rights.still_allows(forward) is goes_on


# ---- the hook


async def test_the_hook_is_asked_after_the_others_and_its_reason_is_the_clients() -> None:
    asked: list[tuple[str, str, str]] = []

    async def hook(user: str, peer: str, address: str) -> str | None:
        await trio.lowlevel.checkpoint()
        asked.append((user, peer, address))
        if address == "db:5432":
            return "not today"
        if address == "web:80":
            raise Refused("nor that")
        return None

    rights = rights_of("", hook=hook)
    assert rights.asks_first
    assert await rights.ask(parse_target(b"db:5432"), LOG) == "not today"
    assert await rights.ask(parse_target(b"web:80"), LOG) == "nor that"
    assert await rights.ask(parse_target(b"mail:25"), LOG) is None
    assert asked[0] == ("alice", "192.0.2.1", "db:5432")
    await rights.ask_for_remotes([Remote.parse("25:mail:25")], LOG)
    with pytest.raises(ConfigRefused, match=r"^not today$"):
        await rights.ask_for_remotes([Remote.parse("5432:db:5432")], LOG)


@pytest.mark.parametrize("fault", ["time-out", "error", "not now"])
async def test_a_hook_that_does_not_decide_denies_for_this_time(
    fault: str, autojump: trio.testing.MockClock
) -> None:
    async def hook(_user: str, _peer: str, _address: str) -> None:
        if fault == "time-out":
            await trio.sleep_forever()
        if fault == "error":
            raise OSError("the database is away")
        raise NotNow("in a minute")

    text = "in a minute" if fault == "not now" else "access to 'db:5432' denied"
    rights = rights_of("", hook=hook)
    assert await rights.ask(parse_target(b"db:5432"), LOG) == text
    with pytest.raises(NotNow, match=f"^{text}$"):
        await rights.ask_for_remotes([Remote.parse("5432:db:5432")], LOG)


async def test_a_right_that_is_lost_while_the_hook_thinks_is_lost() -> None:
    async def hook(_user: str, _peer: str, _address: str) -> None:
        await trio.lowlevel.checkpoint()
        rights.log_in(alice())

    rights = rights_of("", hook=hook)
    denied = "access to 'db:5432' denied"
    assert await rights.ask(parse_target(b"db:5432"), LOG) == denied


async def test_without_a_hook_nobody_is_asked() -> None:
    rights = rights_of("")
    assert not rights.asks_first
    assert await rights.ask(parse_target(b"db:5432"), LOG) is None
    await rights.ask_for_remotes([Remote.parse("5432:db:5432")], LOG)
