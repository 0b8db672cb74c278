"""The WebSocket byte stream, over trio-websocket and faster than it.

trio-websocket does what it is good at: the handshake, ping, pong and the closing handshake.  Every
data frame passes it by: it sits on a stream of ours, the `wire.Wire`, whose ``receive_some`` *is*
the session's read loop.  The wire reads the socket, gives the payload of data frames to the SSH
connection while it is still in the read buffer, and returns only the control frames to
trio-websocket, by way of its public ``wrap_client_stream`` and ``wrap_server_stream``.

* `frames`: RFC 6455's data frames, sans-I/O.
* `pace`: how many bytes may wait for the network.
* `turns`: when a wire may process the bytes of its peer, and how many of them.
* `wire_protocol`: the protocols of a wire and of its neighbours.
* `writer`: the sending half of a wire, and its backlog.
* `wire`: the socket, its reading half, and the dispatch of the bytes that come.
* `handshake`: becoming a WebSocket, in either role; `answer`: what wsproto sees of the server's
  answer.  `trace`: control frames in the log, for -vv.

Messages are binary, and their boundaries mean nothing.
"""
