"""Where bytes enter and leave a tunnel.

* `listener`: the sockets that a remote listens on, of any kind.
* `carry`: which of the following a connection gets.
* `streams`: TCP and Unix sockets; `relay`: the moving of their bytes, each direction with its end;
  `turn_length`: how much of them before other tasks have their turn.
* `socks5`: SOCKS, at its entry and at its exit.
* `udp_listener`, `udp_exit`: the two ends of UDP; `datagrams`: what goes between them;
  `association`: UDP for SOCKS clients; `flows`: what all of that uses of a session.
* `stdio`: standard input and output.
* `link`: what all of them need of a session.
"""
