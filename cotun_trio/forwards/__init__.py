"""Where bytes enter and leave a tunnel.

* `relay`: moves bytes between a channel and a socket, each direction with its own end.
* `tcp`: the two ends of a TCP remote: a listener that opens channels, a channel that dials.
"""
