"""The URL of a fleet's directory.

.. code-block:: text

    url   = scheme "://" [user [":" password] "@"] host [":" port] *("," host [":" port]) [path]
    scheme = ("redis" / "rediss") ["+sentinel" / "+cluster"]
    path  = "/" database                   ; a number, for redis:// and rediss://
          / "/" service ["/" database]     ; for +sentinel

``rediss`` is with TLS.  Only Sentinel and Cluster have several hosts.  An IPv6 address is in
brackets, and a user and a password are percent-encoded.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

import attrs

from cotun_trio.access.files import read_named
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape
from cotun_trio.protocol.addresses import RemoteError, clean_host, join_host_port, parse_port

PORTS = {"": 6379, "cluster": 6379, "sentinel": 26379}
"""The usual port of each form."""
MAX_PASSWORD = 4096
"""Bytes of a password in a file."""
EXAMPLE = "redis://host:6379/0, redis+sentinel://host1,host2/service or redis+cluster://host1,host2"
_URL = re.compile(
    r"(?P<scheme>rediss?)(?:\+(?P<form>sentinel|cluster))?://"
    r"(?:(?P<user>[^@/:]*)(?::(?P<password>[^@/]*))?@)?(?P<hosts>[^@/]+)(?P<path>/[^?#]*)?"
)


@attrs.frozen(kw_only=True)
class RedisUrl:
    """Where a directory is, and how to log in there."""

    form: str
    """``sentinel``, ``cluster``, or empty for one server."""
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    user: str | None
    password: str | None = attrs.field(repr=False)
    service: str = ""
    """The name that Sentinel knows the servers by."""
    database: int = 0

    @classmethod
    def parse(cls, text: str) -> RedisUrl:
        """Return the parts of a URL; see above.

        Raises `UsageError`, which does not show a password.
        """
        found = _URL.fullmatch(text)
        if found is None:
            raise UsageError(
                f"'{escape(masked(text))}' is no directory of a fleet: write {EXAMPLE}"
            )
        form = found["form"] or ""
        service, database = _path(text, form, (found["path"] or "").strip("/"))
        hosts = tuple(_host(text, each, PORTS[form]) for each in found["hosts"].split(","))
        if len(hosts) > 1 and not form:
            raise UsageError(f"'{escape(masked(text))}' has several hosts: write {EXAMPLE}")
        return cls(
            form=form,
            tls=found["scheme"] == "rediss",
            hosts=hosts,
            user=unquote(found["user"]) if found["user"] else None,
            password=unquote(found["password"]) if found["password"] else None,
            service=service,
            database=database,
        )

    def with_password_from(self, path: str) -> RedisUrl:
        """Return the same with the password in the first line of a file.

        Raises `UsageError` for a file that cannot be used.
        """
        name = "the file with the directory's password"
        file = read_named(name, path, most=MAX_PASSWORD, secret=True, first_line=True)
        password = file.data.decode(errors="surrogateescape").rstrip("\r\n")
        if not password:
            raise UsageError(f"{name} {escape(path)} has none in its first line")
        return attrs.evolve(self, password=password)

    def __str__(self) -> str:
        """Return it for a log: without the password."""
        scheme = f"redis{'s' * self.tls}{'+' * bool(self.form)}{self.form}"
        login = "" if self.password is None and self.user is None else f"{self.user or ''}:***@"
        hosts = ",".join(join_host_port(*host) for host in self.hosts)
        path = f"/{self.service}" * bool(self.service) + f"/{self.database}" * bool(self.database)
        return f"{scheme}://{login}{hosts}{path}"


def masked(text: str) -> str:
    """Return a text that should be a URL without what may be a password in it."""
    return re.sub(r"(://|^)[^/]*@", r"\1***@", text)


def _path(text: str, form: str, path: str) -> tuple[str, int]:
    """Return the service and the database."""
    service, _, database = path.partition("/") if form == "sentinel" else ("", "", path)
    if form == "sentinel" and not service:
        raise UsageError(f"'{escape(masked(text))}' has no service: write {EXAMPLE}")
    if database and (form == "cluster" or not re.fullmatch("[0-9]{1,5}", database)):
        raise UsageError(f"'{escape(masked(text))}' has no such database: write {EXAMPLE}")
    return service, int(database or 0)


def _host(text: str, word: str, usual: int) -> tuple[str, int]:
    found = re.fullmatch(r"(\[[^\]]*\]|[^:]+)(?::([0-9]+))?", word)
    try:
        if found is None:
            raise RemoteError(f"'{escape(word)}' is no host")
        return clean_host(found[1]), parse_port(found[2]) if found[2] else usual
    except RemoteError as error:
        raise UsageError(f"'{escape(masked(text))}': {error}") from None
