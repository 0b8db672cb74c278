"""The WebSocket byte stream, over trio-websocket and faster than it.

trio-websocket does what it is good at: the handshake, ping, pong and the closing handshake.  Every
data frame passes it by: it sits on a stream of ours, the `wire.Wire`, whose ``receive_some`` *is*
the session's read loop.  The wire reads the socket, gives the payload of data frames to the SSH
connection while it is still in the read buffer, and returns to trio-websocket only the control
frames, by way of its public ``wrap_client_stream`` and ``wrap_server_stream``.

* `frames`: the data frames of RFC 6455, without I/O.
* `wire`: the socket, the bytes that wait for it, and the dispatch of the bytes that come from it.
* `turns`: when a wire may process what its peer sends.
* `pace`: how many bytes may wait for the network.
* `handshake`: becoming a WebSocket, in either role.
* `any_wire`: the part of a wire that a session needs.

Messages are binary, and their boundaries mean nothing.
"""
