"""Where bytes enter and leave a tunnel.

* `listener`: the sockets that a remote listens on, of any kind.
* `carry`: which of the following kinds a connection gets.
* `streams`: the two ends of a TCP connection or a Unix-domain socket.
* `relay`: the bytes between a channel and a socket, each direction with its own end.
* `socks5`: SOCKS, at its entry and at its exit.
* `udp_listener`: the listening end of UDP.
* `udp_exit`: the dialling end of UDP.
* `association`: UDP for SOCKS clients.
* `datagrams`: datagrams on a channel, both ways.
* `flows`: the flows of UDP in a session, and their limits.
* `stdio`: standard input and output.
* `in_process`: connections that end in this process.
* `places`: the listeners and targets outside of the tunnel, of the system or of a test.
* `running`: the forwards of a session that are running.
* `link`: the part of a session that forwards need.
"""
