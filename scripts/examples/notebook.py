"""Reach a database from a notebook, where there is no Trio: here, Redis, which any socket can ask.

    notebook.py https://tunnel.example.com db.internal:6379

Each part between two empty lines could be a cell; the tunnel is there from the first to the last.
"""

from __future__ import annotations

import socket
import sys

import cotun_trio.blocking

url, database = sys.argv[1:]

tunnel = cotun_trio.blocking.open_client(url)

forward = tunnel.forward(f"127.0.0.1:0:{database}")
host, port = forward.address.rsplit(":", 1)

with socket.create_connection((host, int(port))) as connection, connection.makefile("rw") as redis:
    redis.write("PING\r\n")
    redis.flush()
    print(redis.readline().strip())

print(forward.stats())

tunnel.close()  # or not: the end of the interpreter does it
