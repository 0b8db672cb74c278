"""The words of a remote: where its text is split, and words that mean something else than they look
like.

The grammar that puts them together again is in `cotun_trio.protocol.remote`.
"""

import re

from cotun_trio.protocol.addresses import RemoteError, unix_path

# With the colon behind it.  The colons in brackets are no ends, nor is that of "unix:/".
_WORD = re.compile(r"(unix:[./][^:]*|(?:\[[^\[\]]*\]|[^:])*):")
STARTS_LIKE_PORT = re.compile("[0-9]+(/.*)?")
"""A word that belongs to a port, even to one that makes no sense."""


def is_path(word: str) -> bool:
    """Return whether `word` is the path of a Unix-domain socket."""
    return unix_path(word) is not None


def is_host(word: str) -> bool:
    """Return whether `word` stands for a host, an empty one included."""
    return not STARTS_LIKE_PORT.fullmatch(word) and not is_path(word)


def split_mark(text: str) -> tuple[str, str]:
    """Return the mark of a reverse remote, ``R:`` or ``RP:``, if there is one, and the rest."""
    rest = text.removeprefix("R:").removeprefix("RP:")
    return text[: len(text) - len(rest)], rest


def split_login(text: str) -> tuple[tuple[str, str] | None, list[str]]:
    """Return the login in `text`, which has no mark and no options, and the words behind it.

    Raises `RemoteError` for a login in the wrong place.
    """
    words = _WORD.findall(f"{text}:")
    login, at, rest = text.rpartition("@")
    in_path = is_path(words[0]) or is_path(words[-1])
    if at and not in_path and (rest == "socks" or rest.endswith(":socks")):
        user, colon, password = login.partition(":")
        if not colon:
            raise RemoteError("in front of the @ goes user:password")
        return (user, password), _WORD.findall(f"{rest}:")
    if any("@" in word and not is_path(word) for word in words):
        raise RemoteError("only SOCKS listeners take a login, as in user:password@1080:socks")
    return None, words


def look_alike(words: list[str]) -> str | None:
    """Return what to write in place of words that mean something else than they look like; None for
    all others.

    The full form, which has two hosts and two ports, is always what it looks like.  ``<R>`` is
    where ``R:`` stands, if it does.
    """
    *front, last = words
    first, last = words[0].lower(), last.lower()
    port = last if re.fullmatch("[0-9]{1,5}", last) else "3000"
    if re.fullmatch("0+(/.*)?", last):
        return "nothing can be reached on port 0; for any free port here, write <R>0:localhost:80"
    if last == "stdio":
        return "standard input and output go in front, as in stdio:example.com:22"
    if last in _LIKE_SOCKS and words[-1] != "socks":
        return "for a SOCKS proxy, write <R>1080:socks"
    cannot_be_full = len(words) < 4 and first != "stdio" and not is_path(first)
    if cannot_be_full and "R" in front and last != "socks":
        return f"R: goes in front of all, and once, as in R:3000:localhost:{port}"
    if len(words) == 2 and last != "socks":
        return _like_a_host(words[0], port)
    return None


def _like_a_host(host: str, port: str) -> str | None:
    """Return what to write in place of ``host:port``, where `host` is hardly a host."""
    word = host.lower()
    instead = f"or <R>{port}:{host}:{port} for a host of that name"
    if word in (*_LIKE_SOCKS, "d"):  # ssh has -D for it
        return f"for a SOCKS proxy on that port, write <R>{port}:socks, {instead}"
    if word == "r":
        return f"for a reverse remote, write R:{port}, {instead}"
    if word in ("tcp", "udp"):
        return f"the protocol goes behind the port: write <R>{port}/{word}, {instead}"
    return None


_LIKE_SOCKS = ("socks", "socks4", "socks4a", "socks5", "socks5h")
