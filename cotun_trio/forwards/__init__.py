"""Where bytes enter and leave a tunnel.

* `listener`: the sockets that a remote listens on, of any kind.
* `carry`: which of the following a connection gets.
* `streams`: TCP and Unix sockets; `relay`: the moving of their bytes, each direction with its end.
* `socks5`: SOCKS, at its entry and at its exit.
* `udp`: datagrams.
* `stdio`: standard input and output.
* `link`: what all of them need of a session.
"""
