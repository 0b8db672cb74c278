"""A tunnel in memory, for the tests of programs that use one.

Both ends are the real ones, with everything between them but the network: TCP, TLS, the listeners,
and the targets that are dialled.  So they need no port, work with `trio.testing.MockClock`, and
behave the same each time.  There is no SOCKS, UDP or Unix socket here, since those are made of
sockets.

    >>> import trio
    >>> from cotun_trio.testing import tunnel_pair
    >>> async def shout(stream):
    ...     async for chunk in stream:
    ...         await stream.send_all(chunk.upper())
    >>> async def main():
    ...     async with tunnel_pair() as (server, client):
    ...         server.handle("db.internal", 5432, shout)
    ...         async with await client.open_tcp_stream("db.internal", 5432) as stream:
    ...             await stream.send_all(b"hello")
    ...             print(await stream.receive_some())
    >>> trio.run(main)
    b'HELLO'

`cotun_trio.pytest_plugin` has it as a fixture.

* `pair`: the two ends of a tunnel, as tests use them.
* `places`: the listeners and targets around an end.
* `wire`: the wire between the ends.
"""

from cotun_trio.testing.pair import MemoryClient, MemoryServer, tunnel_pair

__all__ = ["MemoryClient", "MemoryServer", "tunnel_pair"]
