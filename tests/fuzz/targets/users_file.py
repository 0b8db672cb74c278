"""The users file, and the hashes in it."""

from __future__ import annotations

from cotun_trio.access.access_list import is_anchored
from cotun_trio.access.authfile import parse_authfile
from cotun_trio.access.passwords import Secret
from cotun_trio.errors import UsageError
from tests.fuzz.oracle import Work, check_text

LONGEST = 4096
WORDS = (
    b'": ["',
    b'"], "',
    b"$2b$04$",
    b"$argon2id$v=19$m=",
    b",t=1,p=1$",
    b"socks:",
    b"\\\\Q",
    b"\\\\E",
    b"[[:alpha:]]",
    b"(?i)",
    b"\\ud800",
    b"NaN",
    b"1e999",
    b"\xef\xbb\xbf",
)
_CHEAP = 1024
"""KiB times passes of an argon2id hash that is tried: a millisecond."""


def run(data: bytes) -> None:
    """Read `data` as a file, and as the password in one."""
    with Work(at_most=5000 + 300 * len(data)):
        _check_file(data)
        _check_secret(data)
    is_anchored(data.decode("utf-8", "replace"))


def _check_file(data: bytes) -> None:
    try:
        found = parse_authfile(data)
    except UsageError as error:
        check_text(error)
        return
    assert 0 < len(found.users) <= len(data)
    assert len({user.name for user in found.users}) == len(found.users)
    assert all(warning.isprintable() for warning in found.warnings)
    for user in found.users:
        user.access.deciding("example.com:80")
        user.access.deciding_by_socks("example.com:80")
        _check_matches(user.secret)


def _check_secret(data: bytes) -> None:
    try:
        text = data.decode()
        secret = Secret.parse(text)
    except (UsageError, UnicodeDecodeError):
        return
    _check_matches(secret)
    if secret.cost is None:
        assert secret.matches(text)


def _check_matches(secret: Secret) -> None:
    """Check that a hash that was taken can be used: no error is left for a login."""
    match secret.cost:
        case ("bcrypt", "04"):
            pass
        case ("argon2id", memory, passes, _) if int(memory) * int(passes) <= _CHEAP:
            pass
        case None:
            pass
        case _:
            return
    assert not secret.matches("not the password \0")
