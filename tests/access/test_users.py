"""Users: who is let in, and that a no costs the same whatever is wrong."""

from __future__ import annotations

import pytest

from cotun_trio.access import users as users_module
from cotun_trio.access.access_list import AccessList
from cotun_trio.access.passwords import Secret
from cotun_trio.access.users import User, Users

HUNTER2 = "$2b$04$hwr9Zat359TSaZY3oKro5ubBffQ0EuAvFDaqgaJWCOCEM8OEZ6RR."
HUNTER2_5 = "$2b$05$aPTrakrrRc4Sb2AB2Yvn9.k8ZV9waJvTE2N40XZHKr66R.u3UkLCe"


def users(**passwords: str) -> Users:
    """Return users with these passwords, or hashes of them."""
    return Users(User(name, Secret.parse(password)) for name, password in passwords.items())


def test_without_users_everybody_is_let_in_and_may_do_everything() -> None:
    nobody = Users()
    assert nobody.everybody
    for name, password in (("", ""), ("anybody", "at all")):
        user = nobody.verify(name, password)
        assert user is not None
        assert user.name == name
        assert user.access.allows("anything:1")
        assert nobody.find(name) == user


@pytest.mark.parametrize(
    ("user", "password", "may"),
    [
        ("alice", "hunter2", True),
        ("alice", "hunter3", False),
        ("alice", "hunter", False),
        ("alice", "hunter22", False),
        ("alice", "", False),
        ("alicf", "hunter2", False),
        ("Alice", "hunter2", False),
        ("", "hunter2", False),
        ("", "", False),
        ("hunter2", "alice", False),
        ("alice:hunter2", "", False),
        ("alice\0", "hunter2", False),
        ("bob", "hunter2", True),
        ("bob", "hunter3", False),
        ("bob", HUNTER2, False),
        ("carol", "hunter2", False),
    ],
)
def test_a_user_is_let_in_with_the_right_password_only(user: str, password: str, may: bool) -> None:
    found = users(alice="hunter2", bob=HUNTER2, carol="other").verify(user, password)
    assert (found is not None) is may
    assert found is None or found.name == user


def test_an_empty_user_and_an_empty_password_are_some_too() -> None:
    one = Users([User("", Secret.parse(""))])
    assert not one.everybody
    assert one.verify("", "")
    assert not one.verify("", "x")
    assert not one.verify("x", "")


def test_names_and_passwords_may_be_in_any_script() -> None:
    one = users(ünal="пароль")
    assert one.verify("ünal", "пароль")
    assert not one.verify("u\N{COMBINING DIAERESIS}nal", "пароль")  # looks the same, and is not


def test_the_last_of_two_with_one_name_counts() -> None:
    both = Users([User("a", Secret.parse("x"), AccessList([])), User("a", Secret.parse("y"))])
    assert not both.verify("a", "x")
    assert both.verify("a", "y")


@pytest.mark.parametrize("name", ["plain", "four", "five", "unknown"])
@pytest.mark.parametrize("password", ["hunter2", "wrong"])
def test_every_answer_costs_one_hash_of_each_cost_in_use(
    name: str, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = users(plain="hunter2", four=HUNTER2, five=HUNTER2_5, other=HUNTER2)
    checked = []
    matches = Secret.matches

    def noting(secret: Secret, given: str) -> bool:
        checked.append(secret.cost)
        return matches(secret, given)

    monkeypatch.setattr(Secret, "matches", noting)
    assert (several.verify(name, password) is not None) == (
        name != "unknown" and password == "hunter2"
    )
    assert sorted(cost[1] for cost in checked if cost) == ["04", "05"]


def test_nothing_that_is_printed_has_a_password_in_it() -> None:
    some = users(alice="hunter2")
    assert "hunter2" not in f"{some} {some!r} {vars(some)} {some.find('alice')!r}"


def test_a_plain_password_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users_module, "decoy", None)
    assert not users(alice="hunter2").costs
    assert not users(alice="hunter2").verify("bob", "hunter2")
