"""Where bytes enter and leave a tunnel.

* `listener`: the sockets that a remote listens on, of any kind.
* `carry`: which of the following a connection gets.
* `streams`: TCP and Unix sockets; `relay`: the moving of their bytes, each direction with its end.
* `socks5`: SOCKS, at its entry and at its exit.
* `udp_listener`, `udp_exit`: the two ends of UDP; `datagrams`: what goes between them;
  `association`: UDP for SOCKS clients; `flows`: what all of that uses of a session.
* `stdio`: standard input and output.  `in_process`: streams of the program that embeds an end.
* `places`: where listeners are opened and targets are found: the system, unless it is a test.
* `running`: the connections of one session, and their limits.
* `link`: what all of them need of a session.
"""
