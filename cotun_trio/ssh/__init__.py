"""SSH without a thread and without a socket, shaped for one kind of use: forwarding.

From the bottom up:

* `scratch`: the large buffers, one set for all connections of a Trio run.
* `packetizer`: SSH packets (RFC 4253 section 6): bytes in, payloads out, and the way back.
* `messages`: the messages of the connection protocol (RFC 4254), read with exact lengths.
* `key_exchange`: the form of a peer's key exchange messages, checked before paramiko reads them.
* `engine`: one end of an SSH transport up to a finished login, sans-I/O: a paramiko Transport whose
  thread never starts.
* `protocols`: the carrier that a connection needs below, and the sink of a channel.
* `sender`: the sending half of a connection: what may go out now, and what has to wait.
* `window`: how much a peer may send on a channel, and when that grows.
* `channel`: one stream through the connection, with its two windows.
* `stream`: a channel as a Trio stream.
* `openings`: channels that one end asks for, until the other has answered.
* `channel_table`: the channels of a connection: their numbers, their opening, their messages.
* `global_requests`: the requests that the two ends make of each other beside channels.
* `keepalive`: pings at intervals.  `trace`: messages in the log, for -vv.
* `connection`: joins them all: engine, sender, channels, requests, and the carrier underneath.
"""
