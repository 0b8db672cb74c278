"""HTTP in front of the tunnel: the first request decides what a connection becomes.

* `front`: reads requests, and answers those that are not our upgrade.
* `gateway`: passes them to the back end instead, where there is one.
* `forwarding`: the headers that a gateway changes, and the proxies that it believes.
"""
