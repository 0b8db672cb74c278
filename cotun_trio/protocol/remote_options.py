"""The options of a remote, which stand behind it, as in ``R:80:web:80,proxy=v2,allow=10.0.0.0/8``.

* ``proxy=v1``, ``proxy=v2``: a PROXY header of this version goes in front of each connection to the
  target (`proxy_header`).
* ``allow=NETWORK``: only visitors of this network are let in; can be repeated.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import attrs

from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import RemoteError
from cotun_trio.protocol.networks import Network, read_network

ProxyVersion: TypeAlias = Literal["", "v1", "v2"]
"""A version of the PROXY protocol; empty for none."""
MAX_NETWORKS = 64
"""Networks of one remote: each of them is compared with each visitor."""
KEYS = "there are proxy=v1, proxy=v2 and allow=NETWORK"
ADVICE = "where these words are part of a path, put a comma at the very end"
_WORD = re.compile("(?P<key>[A-Za-z][A-Za-z_-]*)=(?P<value>.*)", re.DOTALL)


class OptionError(RemoteError):
    """A fault in an option; the error shows the right form."""


def to_networks(networks: Iterable[Network | str]) -> tuple[Network, ...]:
    """Return networks, each once; a text is read.  Raises `RemoteError`."""
    read = (read_network(each) if isinstance(each, str) else each for each in networks)
    found = tuple(dict.fromkeys(read))
    if len(found) > MAX_NETWORKS:
        raise RemoteError(f"one remote allows up to {MAX_NETWORKS} networks, not {len(found)}")
    return found


@attrs.frozen
class RemoteOptions:
    """The options of one remote."""

    proxy: ProxyVersion = ""
    """The version of the PROXY header in front of each connection to the target; empty for none."""
    allow: tuple[Network, ...] = attrs.field(default=(), converter=to_networks)
    """The networks of the visitors that are let in; none for all."""

    @classmethod
    def read(cls, words: Sequence[str]) -> "RemoteOptions":
        """Return the options that `words` write, ``key=value`` each.  Raises `OptionError`."""
        proxy: ProxyVersion = ""
        allow = []
        for word in words:
            key, _, value = word.partition("=")
            if key == "allow":
                allow.append(value)
            elif key != "proxy":
                raise OptionError(f"there is no option '{escape(key)}': {KEYS}; {ADVICE}")
            elif proxy:
                raise OptionError("the option proxy is there twice")
            else:
                proxy = to_version(value)
        try:
            return cls(proxy, allow)
        except RemoteError as error:
            raise OptionError(f"allow: {error}") from None

    def __str__(self) -> str:
        proxy = [f",proxy={self.proxy}"] if self.proxy else []
        return "".join((*proxy, *(f",allow={network}" for network in self.allow)))


NO_OPTIONS = RemoteOptions()


def to_version(text: str) -> ProxyVersion:
    """Return a version of the PROXY protocol.  Raises `OptionError`."""
    if text == "v1":
        return "v1"
    if text == "v2":
        return "v2"
    raise OptionError(f"proxy is v1 or v2, not '{escape(text)}'")


def split_options(text: str) -> tuple[str, list[str]]:
    """Return a remote without its options, and the options, ``key=value`` each.

    They are all such words at the end, behind commas, and behind the last ``@``: a password and a
    path may have commas.  Where a path has such words at the end, a comma behind them says so, and
    is no part of the path.
    """
    login, at, tail = text.rpartition("@")
    first, *pieces = tail.split(",")
    words: list[str] = []
    while pieces and _WORD.fullmatch(pieces[-1]):
        words.insert(0, pieces.pop())
    ends_in_comma = bool(pieces) and not pieces[-1]
    last = next((piece for piece in reversed(pieces) if piece), "")
    if ends_in_comma and _WORD.fullmatch(last):
        pieces.pop()
    return f"{login}{at}{','.join((first, *pieces))}", words


def with_options(text: str, options: RemoteOptions) -> str:
    """Return a remote with its options, for `split_options` to find both again."""
    comma = "" if split_options(text) == (text, []) else ","
    return f"{text}{comma}{options}"
