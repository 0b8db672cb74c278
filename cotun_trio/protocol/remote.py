"""Remotes: the user's words for the connections that go through the tunnel, and their targets.

Grammar::

    remote = ["R:" | "RP:"] (stream | [login "@"] [local ":"] "socks") options
    stream = [local ":"] target
    local  = port | host | host ":" port | path | "stdio"
    target = "socks" | [host ":"] port | path
    host   = name | IPv4 address | "[" IPv6 address "]" | nothing
    port   = digits ["/tcp" | "/udp"]
    path   = "unix:" ("/" | ".") anything but ":"
    login  = user ":" password
    options = {"," key "=" value}

`local` is where one end listens, `target` is where the other end connects to.  Without ``R:`` the
client listens and the server connects; ``R:`` swaps the two.  Examples, with their `str`::

    3000                             3000=>3000
    example.com:80                   80=>example.com:80
    3000:example.com:80              3000=>example.com:80
    127.0.0.1:3000:example.com:80    127.0.0.1:3000=>example.com:80
    127.0.0.1:example.com:80         127.0.0.1:80=>example.com:80
    [::1]:3000:[fe80::2%eth0]:80     [::1]:3000=>[fe80::2%eth0]:80
    0:example.com:80                 0=>example.com:80
    1.1.1.1:53/udp                   53=>1.1.1.1:53/udp
    socks                            127.0.0.1:1080=>socks
    5000:socks                       127.0.0.1:5000=>socks
    stdio:example.com:22             stdio=>example.com:22
    R:2222:localhost:22              R:2222=>localhost:22
    R:socks                          R:127.0.0.1:1080=>socks
    8080:unix:/run/docker.sock       8080=>unix:/run/docker.sock
    unix:./db.sock:db:5432           unix:./db.sock=>db:5432
    R:unix:/run/in.sock:22           R:unix:/run/in.sock=>22
    stdio:unix:/run/app.sock         stdio=>unix:/run/app.sock
    me:secret@[::1]:1080:socks       [::1]:1080=>socks
    R:80:[::1]:80,allow=10.0.0.0/8   R:80=>[::1]:80,allow=10.0.0.0/8
    RP:80:[::1]:80                   R:80=>[::1]:80,proxy=v2

Missing words and empty hosts have defaults: the local host is 0.0.0.0, which is all interfaces with
IPv4 and with IPv6 (127.0.0.1 for SOCKS), the local port that of the target (1080 for SOCKS, 0
stands for any free one), and the target's host 127.0.0.1.  A few rules keep that unambiguous:

* A word in front of a port belongs to it: ``host:port`` alone is a target.
* After a local host, the target names its host too.  chisel reads ``127.0.0.1:3000:80`` as port
  3000 of *all* interfaces, which is never meant.
* Words that look like a remote of another kind are refused: ``socks:1080`` is no listener on port
  1080.  The full form, with two hosts and two ports, is always what it looks like.
* A path begins with a slash or a dot: ``unix:80`` is a port of the host unix, as in chisel.
* The last ``@`` ends a login, and the first colon in it ends the user; but where a remote begins
  with a path, the ``@`` belongs to the path.
* Options are all words ``key=value`` at the end (`remote_options`), so a path may have commas in
  it.  Where it has such words, a comma at the very end says that they are no options:
  ``80:unix:/a,b=c,``.

A text with ranges of ports, such as ``3000-3010:db:3000-3010``, is several remotes, which
`port_ranges` reads.

Go peers know no paths, no logins, and no networks of visitors: `Remote.needs_extensions`.
"""

from functools import cached_property

import attrs

from cotun_trio.errors import UsageError
from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import (
    MAX_PORT,
    RemoteError,
    canonical_host,
    clean_host,
    clean_path,
    join_host_port,
    parse_port,
    unix_path,
)
from cotun_trio.protocol.remote_options import (
    NO_OPTIONS,
    OptionError,
    RemoteOptions,
    split_options,
    with_options,
)
from cotun_trio.protocol.remote_words import (
    STARTS_LIKE_PORT,
    is_host,
    is_path,
    look_alike,
    split_login,
    split_mark,
)
from cotun_trio.protocol.target import LOOPBACK, Target

ANY_INTERFACE = "0.0.0.0"  # noqa: S104  chisel's default, and people rely on it
SOCKS_PORT = 1080
MAX_LOGIN = 255
"""Bytes of a user or a password: SOCKS has one byte for the length (RFC 1929 section 2)."""

_FORM = "[R:][local-host:]local-port:remote-host:remote-port[/udp], as in 3000:example.com:80"


@attrs.frozen(kw_only=True)
class Remote:
    """One forward: which end listens where, and where each connection goes.

    Hosts are kept without the brackets of IPv6 addresses.  Where a Unix-domain socket takes the
    place of a host and a port, they are empty and 0; so are those of the target of a `socks`
    remote.  Nothing listens for a `stdio` remote, and its local host and port are the defaults.

    A remote that makes no sense raises `RemoteError`.
    """

    local_host: str = attrs.field(converter=clean_host)
    local_port: int
    local_path: str = attrs.field(default="", converter=clean_path)
    remote_host: str = attrs.field(converter=clean_host)
    remote_port: int
    remote_path: str = attrs.field(default="", converter=clean_path)
    udp: bool = False
    socks: bool = False
    reverse: bool = False
    stdio: bool = False
    socks_auth: tuple[str, str] | None = attrs.field(default=None, repr=False)
    """The user and the password that a SOCKS listener asks for.  No text of ours shows them."""
    options: RemoteOptions = NO_OPTIONS
    """What is said and asked about its visitors."""
    range_text: str = attrs.field(default="", eq=False, repr=False)
    """The text of the range that it is of, if it is of one (`port_ranges`): the remotes of a range
    come together, or not at all.  Only the client knows."""

    def __attrs_post_init__(self) -> None:
        _ = self.target  # checks the remote half
        self._check_local_half()
        if self.stdio and self.reverse:
            raise RemoteError("stdio is the client's own, and cannot be reversed")
        if self.stdio and self.udp:
            raise RemoteError("stdio is a stream, and cannot carry UDP")
        if self.socks_auth is not None:
            if not self.socks or self.stdio:
                raise RemoteError("only a SOCKS listener asks for a user and a password")
            _check_login(*self.socks_auth)
        self._check_options()

    def _check_options(self) -> None:
        if self.options.proxy and (self.udp or self.socks or self.stdio):
            raise RemoteError("proxy is for streams to one target, not for UDP, SOCKS and stdio")
        if self.options.allow and (self.local_path or self.stdio):
            raise RemoteError("allow is for visitors with an IP address, who come by TCP or UDP")

    def _check_local_half(self) -> None:
        if not 0 <= self.local_port <= MAX_PORT:
            raise RemoteError(f"nothing can listen on port {self.local_port}")
        if self.local_path:
            if self.local_host or self.local_port or self.udp or self.stdio:
                raise RemoteError("a Unix-domain socket has no host, no port and no UDP")
        elif self.local_host in ("", "R", "RP", "stdio"):
            # The grammar has other uses for these words: `encode` would not lead back here.
            raise RemoteError(f"'{self.local_host}' is no host to listen on")

    @classmethod
    def build(
        cls,
        *,
        local_host: str = "",
        local_port: int | None = None,
        remote_host: str = "",
        remote_port: int | None = None,
        udp: bool = False,
        socks: bool = False,
        reverse: bool = False,
        stdio: bool = False,
        socks_auth: tuple[str, str] | None = None,
        options: RemoteOptions = NO_OPTIONS,
    ) -> "Remote":
        """Return a remote with the defaults in place of empty hosts and missing ports.

        A host may be ``unix:/path``, and has no port then.
        """
        if stdio:  # nothing listens; where the target has no port to lend, none has to be given
            local_host, local_port = "", None if unix_path(remote_host) is None else 0
        local_host, local_path = _split_path(local_host, local_port)
        remote_host, remote_path = _split_path(remote_host, remote_port)
        if not (socks or remote_path):
            if remote_port is None:
                raise RemoteError("the remote port is missing")
            remote_host = remote_host or LOOPBACK
        if local_path:
            local_host, local_port = "", 0
        else:
            default = (LOOPBACK, SOCKS_PORT) if socks else (ANY_INTERFACE, remote_port)
            local_host, local_port = _with_defaults(local_host, local_port, *default)
        return cls(
            local_host=local_host,
            local_port=local_port,
            local_path=local_path,
            remote_host=remote_host,
            remote_port=remote_port or 0,
            remote_path=remote_path,
            udp=udp,
            socks=socks,
            reverse=reverse,
            stdio=stdio,
            socks_auth=socks_auth,
            options=options,
        )

    @classmethod
    def parse(cls, text: str, *, written: str = "") -> "Remote":
        """Return the remote that `text` writes in the grammar above, or raise `UsageError`.

        The error shows `written`, where the user wrote that.
        """
        shown = shown_remote(written or text)
        try:
            return _read(text)
        except (_LookAlikeError, OptionError) as error:
            raise UsageError(f"remote '{shown}': {error}") from error
        except RemoteError as error:
            raise UsageError(f"remote '{shown}': {error}; write {_FORM}") from error

    @cached_property
    def target(self) -> Target:
        """Where its connections go."""
        return Target(self.remote_host, self.remote_port, self.udp, self.socks, self.remote_path)

    @cached_property
    def channel_target(self) -> bytes:
        """The type-specific data of the channel opens for its connections."""
        return str(self.target).encode()

    @property
    def local(self) -> bool:
        """Whether the client listens for it."""
        return not (self.reverse or self.stdio)

    @property
    def needs_extensions(self) -> bool:
        """Whether no Go peer can do its part: open a path, ask for a login, look at visitors."""
        if self.reverse:
            return bool(self.local_path or self.socks_auth or self.options.allow)
        return bool(self.remote_path)

    @property
    def access_address(self) -> str:
        """The text that an access list matches: the target, or ``R:`` and the listening address.

        Hosts are in their canonical form.
        """
        if not self.reverse:
            return self.target.access_address
        if self.local_path:
            return f"R:{self.local_address}"
        return f"R:{join_host_port(canonical_host(self.local_host), self.local_port)}"

    @property
    def local_address(self) -> str:
        """``host:port``, ``unix:/path`` or ``stdio``: where it listens."""
        if self.stdio:
            return "stdio"
        if self.local_path:
            return f"unix:{self.local_path}"
        return join_host_port(self.local_host, self.local_port)

    def encode(self) -> str:
        """Return the text in full, all defaults included, that `parse` makes this remote of.

        Only the login that a SOCKS listener may ask for is not in it.
        """
        plain = f"{'R:' if self.reverse else ''}{self.local_address}:{self.target}"
        return with_options(plain, self.options)

    def __str__(self) -> str:
        """Return the form in logs, as in Go: the hosts that need no mention are left out."""
        local = self.local_address.removeprefix(f"{ANY_INTERFACE}:")
        target = str(self.target).removeprefix(f"{LOOPBACK}:")
        plain = f"{'R:' if self.reverse else ''}{local}=>{target}"
        return f"{plain}{self.options}"


# Parsing, from the back to the front as people read it.


@attrs.frozen
class _Half:
    """One half of a remote as it is written, without defaults; a path is in the host's place."""

    host: str = ""
    port: int | None = None
    protocol: str = ""


class _LookAlikeError(RemoteError):
    """Words that look like a remote of another kind; the error shows the right form."""


def shown_remote(text: str) -> str:
    """Return a remote as an error shows it: escaped, and without the login."""
    _, at, rest = text.rpartition("@")
    return escape(f"***@{rest}" if at else text)  # a password may be in front of the @


def _read(text: str) -> Remote:
    text, options = split_options(text)
    mark, rest = split_mark(text)
    login, words = split_login(rest)
    if (advice := look_alike(words)) is not None:
        raise _LookAlikeError(advice.replace("<R>", mark))
    socks = words[-1] == "socks"
    target, front = _read_target(words)
    local = _read_local(front)
    if local.host and not is_path(local.host) and not target.host and not socks:
        raise RemoteError("after a local host, the target has to name its host too")
    if local.protocol and local.protocol != (target.protocol or "tcp"):
        raise RemoteError("both ends of a remote have the same protocol, named at the end")
    return Remote.build(
        local_host=local.host,
        local_port=local.port,
        remote_host=target.host,
        remote_port=target.port,
        udp=target.protocol == "udp",
        socks=socks,
        reverse=bool(mark),
        stdio=front == ["stdio"],
        socks_auth=login,
        # RP: is from a fork of chisel.
        options=RemoteOptions.read([*options, "proxy=v2"] if mark == "RP:" else options),
    )


def _read_target(words: list[str]) -> tuple[_Half, list[str]]:
    """Return the target at the end of `words`, and the words in front of it."""
    *front, last = words
    if last == "socks":
        return _Half(), front
    if is_path(last):
        return _Half(last), front
    port, protocol = _read_port(last)
    if front and front != ["stdio"] and is_host(front[-1]):
        return _Half(front[-1], port, protocol), front[:-1]
    return _Half("", port, protocol), front


def _read_local(words: list[str]) -> _Half:
    """Return the local half, which `words` are in front of the target."""
    match words:
        case [] | ["stdio"]:
            return _Half()
        case [port] if STARTS_LIKE_PORT.fullmatch(port):
            return _Half("", *_read_port(port))
        case [host] if host:
            return _Half(host)
        case [host, port] if not STARTS_LIKE_PORT.fullmatch(host) and not is_path(port):
            return _Half(host, *_read_port(port))
        case _:
            raise RemoteError(
                "no local host and port in front of the target (an IPv6 address needs brackets)"
            )


def _read_port(text: str) -> tuple[int, str]:
    """Return the port, and the protocol if it names one."""
    port, slash, protocol = text.partition("/")
    protocol = protocol.lower()
    if slash and protocol not in ("tcp", "udp"):
        raise RemoteError(f"'{escape(text)}' names a protocol other than tcp and udp")
    return parse_port(port), protocol


def _split_path(host: str, port: int | None) -> tuple[str, str]:
    """Return `host` and no path, or for ``unix:/path`` no host and the path."""
    path = unix_path(host)
    if path is None:
        return host, ""
    if port is not None:
        raise RemoteError("a Unix-domain socket has no port")
    return "", path


def _with_defaults(
    host: str, port: int | None, default_host: str, default_port: int | None
) -> tuple[str, int]:
    """Return where to listen; the default port is None where the target has none to lend."""
    port = default_port if port is None else port
    if port is None:
        raise RemoteError("the local port is missing, and a Unix-domain socket lends it none")
    return host or default_host, port


def _check_login(user: str, password: str) -> None:
    """Raise `RemoteError` unless SOCKS can carry both, and a colon can stand between them."""
    if ":" in user:
        raise RemoteError("the user of a SOCKS listener has a colon in the name")
    for word in (user, password):
        try:
            size = len(word.encode())
        except UnicodeEncodeError:
            size = 0
        if not 0 < size <= MAX_LOGIN:
            raise RemoteError(
                f"the user and the password of a SOCKS listener have 1 to {MAX_LOGIN} UTF-8 bytes"
            )
