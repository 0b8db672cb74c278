"""Access lists: RE2's patterns as Go matches them, and no spelling that slips past them."""

from __future__ import annotations

import sys

import pytest

from cotun_trio.access.access_list import EVERYTHING, AccessList, compile_pattern, is_anchored
from cotun_trio.errors import UsageError
from cotun_trio.protocol.remote import Remote
from cotun_trio.protocol.target import Target


def allows(pattern: str, target: str) -> bool:
    """Return whether `pattern` alone allows a channel to `target`."""
    return AccessList([pattern]).allows(Target.parse(target).access_address)


@pytest.mark.parametrize("pattern", ["", "*"])
@pytest.mark.parametrize(
    "target", ["example.com:80", "socks", "unix:/run/a.sock", "R:80", "[::1]:1"]
)
def test_two_patterns_allow_everything(pattern: str, target: str) -> None:
    assert allows(pattern, target)
    assert AccessList([pattern]).allows_by_socks("example.com:80")


def test_an_empty_list_allows_nothing() -> None:
    nothing = AccessList([])
    assert not nothing.allows("example.com:80")
    assert not nothing.allows("socks")
    assert not nothing.allows_by_socks("example.com:80")


@pytest.mark.parametrize(
    ("pattern", "target", "may"),
    [
        ("example", "example.com:80", True),  # anywhere in it, as in Go
        ("example", "my-example.org:80", True),
        (r"^10\.0\.0\.[0-9]+:22$", "10.0.0.7:22", True),
        (r"^10\.0\.0\.[0-9]+:22$", "10.0.0.7:2222", False),
        (r"^10\.0\.0\.[0-9]+:22$", "110.0.0.7:22", False),
        ("^[[:alpha:]]+:80$", "host:80", True),
        (r"^\pL+:80$", "host:80", True),  # RE2's, not Python's
        (r"^host:80\z", "host:80", True),
        ("^dns:53$", "dns:53/udp", True),  # the protocol is no part of it
        ("^unix:/run/", "unix:/run/a.sock", True),
        ("^unix:/run/", "unix:/RUN/a.sock", False),  # paths are not hosts
        ("^socks$", "socks", True),
        ("^socks$", "socks:80", False),
    ],
)
def test_a_pattern_is_matched_as_in_go(pattern: str, target: str, may: bool) -> None:
    assert allows(pattern, target) is may


@pytest.mark.parametrize(
    ("pattern", "target", "may"),
    [
        (r"^example\.com:80$", "EXAMPLE.Com:80", True),
        (r"^Example\.COM:80$", "example.com:80", True),
        (r"^example\.com:80$", "example.com.:80", True),
        (r"^10\.0\.0\.1:80$", "[::ffff:10.0.0.1]:80", True),
        (r"^10\.0\.0\.1:80$", "[::FFFF:a00:1]:80", True),
        (r"^\[::1\]:80$", "[0:0:0:0:0:0:0:1]:80", True),
        (r"^\[::1\]:80$", "[::1%lo]:80", True),  # only link-local addresses have zones
        (r"^\[fe80::1\]:80$", "[fe80::1%eth0]:80", False),
        (r"^\[fe80::1%eth0\]:80$", "[FE80:0::1%eth0]:80", True),
        (r"^xn--mnchen-3ya\.de:80$", "MÜNCHEN.de:80", True),
        # Of those who say what is forbidden, by all but naming what is not:
        (r"^[^m]", "Metadata.internal:80", False),
        (r"^[^1]", "[::ffff:169.254.169.254]:80", False),
        (r"[^.]:80$", "metadata.:80", True),
        (r"^.*[^l]:80$", "metadata.internal.:80", False),
    ],
)
def test_no_other_spelling_slips_past_a_list(pattern: str, target: str, may: bool) -> None:
    assert allows(pattern, target) is may


@pytest.mark.parametrize(
    ("remote", "pattern", "may"),
    [
        ("R:8080:localhost:80", r"^R:0\.0\.0\.0:8080$", True),
        ("R:8080:localhost:80", r"^localhost:80$", False),
        ("R:[::FFFF:127.0.0.1]:8080:localhost:80", r"^R:127\.0\.0\.1:8080$", True),
        ("R:LOCALHOST:8080:localhost:80", "^R:localhost:8080$", True),
        ("R:socks", r"^R:127\.0\.0\.1:1080$", True),
        ("R:unix:/run/a.sock:80", "^R:unix:/run/", True),
        ("R:unix:/Run/a.sock:80", "^R:unix:/run/", False),
        ("8080:Example.com:80", r"^example\.com:80$", True),
        ("socks", "^socks$", True),
    ],
)
def test_a_remote_is_matched_by_what_it_uses(remote: str, pattern: str, may: bool) -> None:
    assert AccessList([pattern]).allows(Remote.parse(remote).access_address) is may


@pytest.mark.parametrize("target", ["R:8080", "r:8080", "r.:8080"])
def test_a_host_called_r_is_no_reverse_remote(target: str) -> None:
    assert not allows("^R:.*:8080$|^R:8080$", target)
    assert allows("", target)


def test_the_first_pattern_that_matches_decides() -> None:
    rules = AccessList(["^a:", ":80$", ""])
    assert rules.deciding("a:80") == "^a:"
    assert rules.deciding("b:80") == ":80$"
    assert rules.deciding("b:81") == ""


def test_socks_targets_are_not_restricted_where_only_socks_is_named() -> None:
    rules = AccessList(["^socks$"])
    assert rules.deciding_by_socks("example.com:80") == "^socks$"
    assert not rules.allows("example.com:80")


def test_socks_targets_have_to_match_where_there_are_patterns_for_them() -> None:
    rules = AccessList(["^socks$", r"socks:^10\.", "socks:^[^.]+:22$"])
    assert rules.deciding_by_socks("10.0.0.1:80") == r"socks:^10\."
    assert rules.deciding_by_socks("host:22") == "socks:^[^.]+:22$"
    assert rules.deciding_by_socks("example.com:80") is None
    assert not rules.allows("10.0.0.1:80")  # they are for SOCKS only


def test_patterns_for_socks_targets_do_not_allow_socks_itself() -> None:
    rules = AccessList(["socks:"])
    assert not rules.allows("socks")
    assert not rules.allows_by_socks("example.com:80")


@pytest.mark.parametrize("pattern", ["(", "[z-a]", "(?=a)", "a{1001}", r"\8", "socks:(", "a**\x1b"])
def test_what_re2_does_not_have_is_the_users_error(
    pattern: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="is no regular expression: "):
        AccessList(["ok", pattern])
    assert capfd.readouterr().err == ""  # the library would print it by itself


def test_half_of_a_surrogate_pair_is_the_users_error() -> None:
    with pytest.raises(UsageError, match=r"'a\\ud800' is no regular expression: not Unicode"):
        compile_pattern("a\ud800")


def test_an_error_shows_a_pattern_escaped() -> None:
    with pytest.raises(UsageError, match=r"'\(\\x1b\[2J' is no"):
        compile_pattern("(\x1b[2J")


def test_without_the_library_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(UsageError, match="pip install google-re2"):
        AccessList(["never compiled before"])
    assert AccessList([""]).allows("anything:1")


def test_lists_are_the_same_when_their_patterns_are() -> None:
    assert AccessList(["a", "b"]) == AccessList(("a", "b"))
    assert AccessList(["a", "b"]) != AccessList(["b", "a"])
    assert AccessList([""]) == EVERYTHING


@pytest.mark.parametrize(
    ("pattern", "anchored"),
    [
        ("", True),
        ("*", True),
        ("^a:80$", True),
        (r"\Aa:80\z", True),
        ("(?i)^a:80$", True),
        ("^a:.*", True),
        (".*:80$", True),
        ("^(a|b):80$", True),
        ("^a:80$|^b:80$", True),
        (r"^[|)(]$", True),
        (r"^[]|]$", True),
        (r"^\Q|\E$", True),
        (r"^a\\$", True),
        ("socks:^a:80$", True),
        ("a:80", False),
        ("^a:80", False),
        ("a:80$", False),
        (r"^a:80\$", False),
        (r"\^a:80$", False),
        ("^a:80$|b:80", False),
        ("^a|b$", False),
        ("socks:a", False),
        ("^socks", False),
    ],
)
def test_patterns_without_anchors_are_found(pattern: str, anchored: bool) -> None:
    assert is_anchored(pattern) is anchored
