"""HTTP in front of the tunnel: the first request decides what a connection becomes.

* `targets`: the targets and hosts that a request may have.
* `front`: the requests of a connection, and the answers to requests for no tunnel.
* `gateway`: requests passed on to the back end, and its responses passed back.
* `forwarding`: the headers that a gateway changes, and the proxies that it trusts.
"""
