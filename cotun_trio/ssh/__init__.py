"""SSH without a thread and without a socket, shaped for one kind of use: forwarding.

From the bottom up:

* `scratch`: the large buffers, one set for all connections of a Trio run.
* `packetizer`: SSH packets (RFC 4253 section 6): bytes in, payloads out, and the way back.
* `engine`: one end of an SSH transport up to a finished login, sans-I/O: a paramiko Transport whose
  thread never starts.
* `messages`: the messages of the connection protocol (RFC 4254), read with exact lengths.
* `channel`: one stream through the connection.  `window`: how much its peer may send.
* `openings`: channels that are asked for.  `global_requests`: other requests.
* `stream`: a channel as a Trio stream.
* `trace`: messages in the log, for -vv.
* `protocols`: the carrier below a connection, and the handler above.
* `connection`: all of them together: channels, requests, re-keying, and the carrier.
"""
