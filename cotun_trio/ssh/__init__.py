"""SSH without a thread and without a socket, shaped for one kind of use: forwarding.

From the bottom up:

* `scratch`: the large buffers, one set for all connections of a Trio run.
* `packetizer`: SSH packets (RFC 4253 section 6): bytes in, payloads out, and the other way round.
* `engine`: one end of an SSH transport up to a finished login, without I/O: a paramiko Transport
  whose thread never starts.
* `messages`: the messages of the connection protocol (RFC 4254), read with exact lengths.
* `window`: the size of a channel's window, which grows on a long link.
* `openings`: channels that one end has asked for, and the other has not answered yet.
* `channel`: one stream through the connection, with its window.
* `stream`: a channel as a Trio stream.
* `global_requests`: requests of one end to the other, beside channels.
* `neighbours`: the carrier below a connection, and the handler above it.
* `connection`: an engine with its channels, requests and new keys, and the carrier below.
"""
