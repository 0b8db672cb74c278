"""`escape`: whatever comes in, one printable line of bounded length goes out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.escape import MAX_SHOWN, escape


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("alice", "alice"),
        ("münchen 東京 😀", "münchen 東京 😀"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31mred\x07\0\x7f", r"\x1b[31mred\x07\x00\x7f"),
        ("user\u202eexe.txt\u200b", r"user\u202eexe.txt\u200b"),
        ("line\u2028paragraph\u2029", r"line\u2028paragraph\u2029"),
        ("no\u00a0break", r"no\xa0break"),
        ("\U000e0041", r"\U000e0041"),
        ("\ud800", r"\ud800"),
        (b"caf\xc3\xa9", "café"),
        (b"\xff\xfe", r"\xff\xfe"),
        (b"cut \xc3", r"cut \xc3"),
    ],
)
def test_shows_what_is_printable_and_escapes_the_rest(text: str | bytes, shown: str) -> None:
    assert escape(text) == shown


def test_nothing_can_imitate_an_escape() -> None:
    assert escape("\\n") == r"\\n" != escape("\n")
    assert escape(rb"\xff") == r"\\xff" != escape(b"\xff")


def test_longer_text_is_cut_and_says_so() -> None:
    assert escape("x" * MAX_SHOWN) == "x" * MAX_SHOWN
    assert escape("x" * (MAX_SHOWN + 1)) == "x" * MAX_SHOWN + "…"
    assert escape("abcdef", limit=3) == escape(b"abcdef", limit=3) == "abc…"


def test_a_character_cut_in_two_by_the_bound_on_bytes_is_never_shown() -> None:
    assert escape("😀".encode() * 100 + b"x", limit=3) == "😀😀😀…"
    assert escape(b"x" + "😀".encode() * 100, limit=3) == "x😀😀…"


@given(st.text() | st.binary(), st.integers(0, 50))
def test_is_always_one_printable_line_within_the_bound(text: str | bytes, limit: int) -> None:
    shown = escape(text, limit)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    assert len(shown) <= 10 * limit + 1


@given(st.text())
def test_says_enough_to_tell_any_two_texts_apart(text: str) -> None:
    # The escapes are Python's own, so that there is a way back.
    shown = escape(text, limit=len(text))
    raw = shown.encode("ascii", "backslashreplace")
    assert raw.decode("unicode_escape") == text


@given(st.binary(), st.integers(0, 50))
def test_bytes_and_their_text_look_the_same(raw: bytes, limit: int) -> None:
    assert escape(raw, limit) == escape(raw.decode("utf-8", "surrogateescape"), limit)
