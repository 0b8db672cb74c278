"""The WebSocket byte stream, over trio-websocket and faster than it.

trio-websocket does what it is good at: the handshake, ping, pong and the closing handshake.  Every
data frame passes it by: it sits on a stream of ours, the `wire.Wire`, whose ``receive_some`` *is*
the session's read loop.  The wire reads the socket, gives the payload of data frames to the SSH
connection while it is still in the read buffer, and returns to trio-websocket only the control
frames, by way of its public ``wrap_client_stream`` and ``wrap_server_stream``.

* `frames`: RFC 6455's data frames, sans-I/O.
* `wire`: the socket, what waits for it, and the dispatch of what comes from it.
* `wire_protocol`: a wire, as its session sees it.
* `turns`: when a wire processes what its peer sends.  `pace`: how much may wait for the network.
* `handshake`: becoming a WebSocket, in either role.  `trace`: control frames in the log, for -vv.

Messages are binary, and their boundaries mean nothing.
"""
