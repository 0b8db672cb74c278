"""The commands' side of the admin interface: one request after the other, without an event loop."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from cotun_trio.access.files import read_named
from cotun_trio.errors import UsageError
from cotun_trio.escape import escape
from cotun_trio.settings import AdminAddress

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 20.0
"""Seconds for an answer; those who wait for events hear something each 15."""
MAX_ANSWER = 16 * 1024 * 1024
"""Bytes of an answer: a thousand sessions with all of their remotes."""
MAX_LINE = 64 * 1024
"""Bytes of an event."""
_FOREIGN = " is no admin interface of cotun-trio"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP on a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        """See `http.client.HTTPConnection`."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self._path)


class AdminClient:
    """Asks the interface at `address`, with the token of a file where that is needed."""

    def __init__(self, address: str, token_file: str | None) -> None:
        self._address = AdminAddress.parse(address)
        self._shown = escape(str(self._address))
        self._headers = {}
        if token_file is not None:
            found = read_named("the admin token's file", token_file, most=1024, first_line=True)
            token = found.data.strip().decode("latin-1")
            self._headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str) -> Any:
        """Return the JSON at a path.

        Raises `UsageError` where nobody answers, or with an error.
        """
        return self._good(*self._ask("GET", path))

    def find(self, path: str) -> Any | None:
        """Return the JSON at a path; None where there is none.  Raises `UsageError` as `get`."""
        status, value = self._ask("GET", path)
        return None if status == HTTPStatus.NOT_FOUND else self._good(status, value)

    def delete(self, path: str) -> Any | None:
        """Delete the thing at a path, and return the answer; None where there is none.

        Raises `UsageError` as `get`.
        """
        status, value = self._ask("DELETE", path)
        return None if status == HTTPStatus.NOT_FOUND else self._good(status, value)

    def put(self, path: str, value: object) -> Any:
        """Set the value at a path, and return the answer.  Raises `UsageError` as `get`."""
        return self._good(*self._ask("PUT", path, json.dumps(value)))

    def _good(self, status: int, value: Any) -> Any:
        """Return the value of an answer.  Raises `UsageError` where it is an error."""
        if status != HTTPStatus.OK:
            detail = value.get("detail") if isinstance(value, dict) else None
            raise UsageError(f"{self._shown}: {escape(str(detail or status))}")
        return value

    def follow(self, path: str) -> Iterator[Any]:
        """Yield the data of each event at a path, until the program there ends.

        Raises `UsageError` as `get`.
        """
        with self._response("GET", path, "text/event-stream") as response:
            if response.status != HTTPStatus.OK:
                self._good(response.status, self._read(response))
            while line := response.readline(MAX_LINE):
                name, _, data = line.partition(b": ")
                if name == b"data":
                    yield self._json(data)

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, Any]:
        """Make a request; return the status and the JSON of the answer."""
        with self._response(method, path, "application/json", body) as response:
            return response.status, self._read(response)

    def _read(self, response: http.client.HTTPResponse) -> Any:
        """Return the JSON of an answer."""
        content = response.read(MAX_ANSWER)
        if response.status == HTTPStatus.UNAUTHORIZED:
            raise UsageError(f"{self._shown} wants its token: give --token-file FILE")
        return self._json(content)

    def _json(self, text: bytes) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            raise UsageError(f"{self._shown}{_FOREIGN}") from None

    @contextlib.contextmanager
    def _response(
        self, method: str, path: str, accept: str, body: str | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """Make a request; give the answer, whose body is still to be read."""
        address = self._address
        connection = (
            _UnixConnection(address.path)
            if address.path
            else http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT)
        )
        try:
            connection.request(method, path, body, headers={**self._headers, "Accept": accept})
            yield connection.getresponse()
        except OSError as error:
            reason = error.strerror or str(error)
            raise UsageError(
                f"cannot ask {self._shown}: {reason}: is it the --admin-listen of a server or a "
                "client that runs?"
            ) from None
        except http.client.HTTPException:
            raise UsageError(f"{self._shown}{_FOREIGN}") from None
        finally:
            connection.close()
