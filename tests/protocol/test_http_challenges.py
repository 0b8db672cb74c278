"""Challenges of servers and proxies, as RFC 9110 section 11 has them, and as they come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.protocol.http_challenges import (
    MAX_CHALLENGES,
    MAX_FIELD,
    Challenge,
    read_challenges,
)

NAME = b"proxy-authenticate"


def read(*values: bytes) -> list[Challenge]:
    return read_challenges([(NAME, value) for value in values], NAME)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"Basic", [Challenge("Basic")]),
        (b'Basic realm="a, Digest b=c"', [Challenge("Basic", {"realm": b"a, Digest b=c"})]),
        (
            rb'Digest realm="a \"b\" \\c", QOP=auth , Nonce = "n"',
            [Challenge("Digest", {"realm": rb'a "b" \c', "qop": b"auth", "nonce": b"n"})],
        ),
        (
            b'Negotiate, NTLM,, Basic realm="x", charset="UTF-8", Digest nonce=n,',
            [
                Challenge("Negotiate"),
                Challenge("NTLM"),
                Challenge("Basic", {"realm": b"x", "charset": b"UTF-8"}),
                Challenge("Digest", {"nonce": b"n"}),
            ],
        ),
        (
            b"Negotiate TlRM/T+V.N-T_U~A==, Basic a=b",
            [Challenge("Negotiate"), Challenge("Basic", {"a": b"b"})],
        ),
        (b"NTLM TlRMTVNTUAACAAAA", [Challenge("NTLM")]),
        (b"Digest a=1, A=2", [Challenge("Digest", {"a": b"1"})]),
        (b'Digest a="", b="\xff\x80"', [Challenge("Digest", {"a": b"", "b": b"\xff\x80"})]),
        (b'Digest a="b" c="d"', [Challenge("Digest", {"a": b"b", "c": b"d"})]),  # seen in the wild
        # No challenge, from some place on.
        (b"", []),
        (b" , ,", []),
        (b"\x1b[31m", []),
        (b"Basic=", []),
        (b"a=b, Basic", []),
        (b'Basic realm="x', [Challenge("Basic")]),
        (b'Basic realm="x\\"', [Challenge("Basic")]),
        (b"Basic ?, Digest a=b", [Challenge("Basic")]),
    ],
    ids=ascii,
)
def test_a_field_has_challenges_and_these_have_parameters(
    value: bytes, found: list[Challenge]
) -> None:
    assert read(value) == found


def test_fields_of_the_same_name_are_one_list_and_others_are_none_of_it() -> None:
    fields = [(NAME, b"NTLM"), (b"www-authenticate", b"Bearer"), (NAME, b"Basic a=b")]
    assert read_challenges(fields, NAME) == [Challenge("NTLM"), Challenge("Basic", {"a": b"b"})]


def test_a_scheme_is_known_in_either_case() -> None:
    (found,) = read(b"DIGEST")
    assert found.is_of("digest")
    assert not found.is_of("basic")


def test_there_is_a_limit() -> None:
    assert len(read(b"a, " * 100, b"b")) == MAX_CHALLENGES
    assert read(b"x" * (MAX_FIELD + 1) + b" y=z") == [Challenge("x" * MAX_FIELD)]


TEXT = st.binary(max_size=9).map(lambda text: text.replace(b"\0", b""))
TOKENS = st.text("AZaz09._-", min_size=1, max_size=9)
CHALLENGES = st.builds(Challenge, TOKENS, st.dictionaries(TOKENS.map(str.lower), TEXT, max_size=3))


@given(st.lists(CHALLENGES, max_size=4))
def test_what_is_written_is_read_back(challenges: list[Challenge]) -> None:
    written = []
    for each in challenges:
        quoted = {
            key: value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
            for key, value in each.parameters.items()
        }
        pairs = [b'%b="%b"' % (key.encode(), value) for key, value in quoted.items()]
        written.append(each.scheme.encode() + b" " + b", ".join(pairs))
    assert read(b", ".join(written)) == challenges


@given(st.binary() | st.text('ab=" \\,').map(str.encode))
def test_anything_can_be_read(value: bytes) -> None:
    for found in read(value):
        assert found.scheme.isprintable()
