"""The users file: what is taken, and that what is not quite right is an error that says where."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.access import authfile
from cotun_trio.access.authfile import load_authfile, parse_authfile
from cotun_trio.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

BCRYPT = "$2b$04$hwr9Zat359TSaZY3oKro5ubBffQ0EuAvFDaqgaJWCOCEM8OEZ6RR."


def test_users_have_names_passwords_and_lists() -> None:
    found = parse_authfile(
        b'{"alice:secret": ["^a:1$", "^R:"], "bob:x:y": [""], ":": [], "carol:%s": ["*"]}'
        % BCRYPT.encode()
    )
    assert [user.name for user in found.users] == ["alice", "bob", "", "carol"]
    alice, bob, nobody, carol = found.users
    assert alice.access.patterns == ("^a:1$", "^R:")
    assert alice.secret.matches("secret")
    assert bob.secret.matches("x:y")
    assert nobody.secret.matches("")
    assert not nobody.access.allows("a:1")
    assert carol.secret.cost is not None
    assert not carol.secret.matches(BCRYPT)


def test_it_says_where_each_cost_is_found_first() -> None:
    argon2 = f"$argon2id$v=19$m=64,t=1,p=1${'c29tZXNhbHQ'}$cKj1f0i3RWrm8zUrGJMuxg"
    found = parse_authfile(
        f'{{"a:{BCRYPT}": [], "b:{BCRYPT}": [],\n"c:x": [],\n\n  "d:{argon2}":\n["^a$"], '
        f'"e:{BCRYPT}": []}}'.encode()
    )
    assert found.hashes == {
        ("bcrypt", "04"): "line 1 and 2 more",
        ("argon2id", "64", "1", "1"): "line 4",
    }


def test_a_byte_order_mark_is_no_part_of_it() -> None:
    assert parse_authfile(b'\xef\xbb\xbf{"a:b": [""]}').users[0].name == "a"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(b"", "line 1, column 1: not JSON: ", id="empty"),
        pytest.param(b" \n", "line 2, column 1: not JSON: ", id="blank"),
        pytest.param(b'{\n "a:b": [""],\n,}', "line 3, column 1: not JSON: ", id="comma"),
        pytest.param(b'{"a:b": [""]', "line 1, column 13: not JSON: ", id="cut short"),
        pytest.param(b'{"a:b": [""]} x', "line 1, column 15: not JSON: ", id="more behind it"),
        pytest.param(b'{"a:b":\n\n ["\xff"]}', "line 3, column 4: not UTF-8", id="not UTF-8"),
        pytest.param(b"{}", "line 1, column 1: there is no user in it", id="no users"),
        pytest.param(b"[]", "line 1, column 1: not an object", id="array"),
        pytest.param(b"null", "line 1, column 1: not an object", id="null"),
        pytest.param(b'"a:b"', "line 1, column 1: not an object", id="string"),
        pytest.param(b"[" * 100_000, "line 1, column 1: not an object", id="deep"),
        pytest.param(b'{"a:b": ' + b"9" * 5000 + b"}", "line 1, column 2: the user 'a'", id="int"),
        pytest.param(
            b'{"a:b": [""],\n  "secret": [""]}', "line 2, column 3: .* no colon", id="no colon"
        ),
        pytest.param(
            b'{"a:\\u00e9": ["x", "\\""],\n"a:c": [""]}',
            "line 2, column 1: the user 'a' is there twice",
            id="twice",
        ),
        pytest.param(b'{"a:b": [""], "a:b": [""]}', "column 15: .* twice", id="the same twice"),
        pytest.param(b'{"a:b": null}', "column 2: the user 'a' has no list", id="null list"),
        pytest.param(b'{"a:b": ""}', "column 2: the user 'a' has no list", id="string list"),
        pytest.param(b'{"a:b": {"c": ""}}', "column 2: the user 'a' has no list", id="object"),
        pytest.param(
            b'{"a:b": ["x", 1]}', "column 10: pattern 2 of the user 'a' is not a", id="number"
        ),
        pytest.param(
            b'{"a:b": [["x"]]}', "column 2: pattern 1 of the user 'a' is not a", id="nested"
        ),
        pytest.param(
            b'{"a:b":\n["x",\n "("]}',
            r"line 3, column 2: pattern 2 of the user 'a': '\(' is no regular expression",
            id="pattern",
        ),
        pytest.param(
            b'{"a:b": ["(\\ud800)"]}',
            r"line 1, column 10: pattern 1 of the user 'a': '\(\\ud800\)' is no regular",
            id="half of a surrogate pair",
        ),
        pytest.param(
            b'{"\xc3\xa9:b":\n ["\xff"]}',
            "line 2, column 4: not UTF-8",
            id="not UTF-8, behind some",
        ),
        pytest.param(
            b'\xef\xbb\xbf{"a:b":\n ["\xff"]}',
            "line 2, column 4: not UTF-8",
            id="not UTF-8, marked",
        ),
        pytest.param(
            b'{"a:b": [],\n"x:$6$rounds=1$a$b": []}', "line 2, column 1: .*hash", id="other hash"
        ),
        pytest.param(b'{"a\\n:b": 1}', r"the user 'a\\n' has no list", id="escaped"),
    ],
)
def test_what_is_not_quite_right_is_an_error_that_says_where(content: bytes, error: str) -> None:
    with pytest.raises(UsageError, match=error):
        parse_authfile(content)


def test_a_huge_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authfile, "MAX_SIZE", 100)
    path = tmp_path / "users.json"
    path.write_bytes(b'{"a:b": [""]}' + b" " * 100)
    with pytest.raises(UsageError, match="has over 100 bytes"):
        load_authfile(str(path))


@given(st.text(alphabet='{}[]",: ab\\\n', max_size=30))
def test_whatever_it_holds_there_are_users_or_an_error_of_the_users(text: str) -> None:
    try:
        users = parse_authfile(text.encode()).users
    except UsageError as error:
        users, said = (), str(error)
    else:
        said = ""
    assert bool(users) != ("line " in said)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters=":"), max_size=5),
        st.lists(st.sampled_from(["", "*", "^a$", "x", '^"\\\\n$', "é"]), max_size=3),
        min_size=1,
    ),
    st.booleans(),
)
def test_what_json_writes_is_read(lists: dict[str, list[str]], ascii_only: bool) -> None:
    text = json.dumps({f"{name}:pw": ps for name, ps in lists.items()}, ensure_ascii=ascii_only)
    found = {user.name: list(user.access.patterns) for user in parse_authfile(text.encode()).users}
    assert found == lists


def test_no_error_shows_a_password() -> None:
    for content in (
        '{"a:hunter2": 1}',
        '{"hunter2": [""]}',
        '{"a:hunter2": [""], "a:hunter2": [""]}',
        '{"a:hunter2": ["("]}',
        '{"a:$6$hunter2": [""]}',
        '{"a:hunter2": [""]',
    ):
        with pytest.raises(UsageError) as caught:
            parse_authfile(content.encode())
        assert "hunter2" not in str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_there_is_one_warning_for_each_pattern_that_is_not_anchored() -> None:
    found = parse_authfile(b'{"a:b": ["^x$", "ex\\u001b", ""], "c:d": ["ex\\u001b", "^y"]}')
    assert [line.split(",")[0] for line in found.warnings] == [
        "pattern 2 of the user 'a'",
        "pattern 2 of the user 'c'",
    ]
    assert r"'ex\x1b', is not anchored" in found.warnings[0]


@pytest.mark.parametrize(
    ("content", "mode", "warning"),
    [
        ('{"a:b": [""]}', 0o600, ""),
        ('{"a:b": [""]}', 0o640, ""),
        ('{"a:b": [""]}', 0o644, "chmod o-r"),
        (f'{{"a:{BCRYPT}": [""]}}', 0o644, ""),
    ],
)
def test_a_file_that_everybody_can_read_or_change_is_warned_of(
    content: str, mode: int, warning: str, tmp_path: Path
) -> None:
    path = tmp_path / "users.json"
    path.write_text(content)
    path.chmod(mode)
    warnings = load_authfile(str(path)).warnings
    assert len(warnings) == bool(warning)
    assert warning in "".join(warnings)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("none.json", "cannot read the users file .*none.json: No such file"),
        (".", "cannot read the users file .*: Is a directory"),
        ("a\0b", "is not a path"),
    ],
)
def test_a_file_that_cannot_be_read_is_the_users_error(
    name: str, error: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=error):
        load_authfile(os.path.join(tmp_path, name))  # noqa: PTH118  a Path would drop the dot


def test_an_error_in_a_file_names_it(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    path.write_text("{}")
    with pytest.raises(
        UsageError, match=r"the users file .*users\.json: line 1, column 1: there is"
    ):
        load_authfile(str(path))
