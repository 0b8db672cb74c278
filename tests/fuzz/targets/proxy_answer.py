"""What an HTTP proxy answers to a CONNECT, and the login that it may ask for."""

from __future__ import annotations

import trio

from cotun_trio.errors import ConnectionLost
from cotun_trio.net.http_proxy import MAX_HEAD, ask, skip_body
from cotun_trio.protocol.proxy_login import ProxyLogin
from tests.fuzz.memory_transport import MemoryTransport
from tests.fuzz.oracle import Work, check_text, ways_to_cut

LONGEST = MAX_HEAD + 1024
WORDS = (
    b"HTTP/1.1 200 ",
    b"HTTP/1.0 407 ",
    b"HTTP/1.1 101 ",
    b"HTTP/1.1 100 \r\n\r\n",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Upgrade: ",
    b"Proxy-Authenticate: ",
    b'Digest realm="r", nonce="n", qop="auth"',
    b", algorithm=SHA-256-sess",
    b", userhash=true, stale=true",
    b"Basic, NTLM, Negotiate",
    b"\r\n\r\n",
)


def run(data: bytes) -> None:
    """Read `data` as the answer: what is behind it is not lost, however it is cut."""
    results = []
    for pieces in ways_to_cut(data):
        with Work(at_most=60_000 + 400 * len(data)):
            results.append(_ask(pieces))
    assert results[0] == results[1] == results[2], results
    if isinstance(results[0], bytes):
        assert data.endswith(results[0])


def _ask(pieces: list[bytes]) -> object:
    """Return what came behind the answer, the login for the next request, or the error."""
    transport = MemoryTransport(pieces)
    login = ProxyLogin("user", "password", "example.com:80", new_nonce=lambda: "nonce")

    async def main() -> object:
        answer, connection = await ask(transport, "example.com:80", None)  # type: ignore[arg-type]
        if answer.status_code != 407:
            return bytes(connection.trailing_data[0]) + transport.left()
        login.challenge(tuple(answer.headers))
        # What it returns may depend on the cuts: bytes behind the body may be there or not.
        await skip_body(transport, answer, connection)  # type: ignore[arg-type]
        return {"authorization": login.authorization()}

    try:
        return trio.run(main)
    except ConnectionLost as error:
        check_text(error)
        return type(error)
