"""Expose a Trio HTTP application from behind NAT: it listens on the tunnel server, not here.

    expose_http.py https://tunnel.example.com [PORT]

The server has to run with ``--reverse``.  Nothing listens on this machine.
"""

from __future__ import annotations

import sys
from contextlib import suppress

import h11
import trio

import cotun_trio


async def serve(stream: trio.abc.HalfCloseableStream) -> None:
    """Answer the requests of one connection."""
    connection = h11.Connection(h11.SERVER)
    with suppress(trio.BrokenResourceError):
        async with stream:
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(bytes(await stream.receive_some()))
                elif isinstance(event, h11.Request):
                    path = event.target.decode()
                elif isinstance(event, h11.EndOfMessage):
                    body = f"You asked for {path}, and nobody can see this machine.\n".encode()
                    head = h11.Response(
                        status_code=200, headers=[("Content-Length", str(len(body)))]
                    )
                    for part in (head, h11.Data(data=body), h11.EndOfMessage()):
                        await stream.send_all(connection.send(part) or b"")
                    if connection.our_state is h11.MUST_CLOSE:
                        return
                    connection.start_next_cycle()
                elif isinstance(event, h11.ConnectionClosed):
                    return


async def main(url: str, port: int) -> None:
    """Serve until interrupted."""
    async with cotun_trio.open_client(url) as client:
        listener = await client.listen_tcp(port)
        print(f"http://{listener.address}", flush=True)
        await trio.serve_listeners(serve, [listener])


if __name__ == "__main__":
    try:
        trio.run(main, sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    except* KeyboardInterrupt:
        pass
