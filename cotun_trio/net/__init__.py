"""The network below HTTP: sockets, names, proxies, TLS.

* `dial`: TCP connections to hosts, and listening sockets.
* `unix`: the same for Unix-domain sockets.
* `proxy`: TCP connections through a proxy.
* `names`: host names looked up in threads, in fair shares.
* `accept`: connections accepted from a listening socket.
* `sockets`: options of sockets, and their end.
* `descriptors`: the descriptors that are kept from forwards.
* `transport`: a socket with TLS or without, before the data path and beside it.
* `tls`: TLS, bytes in and bytes out.
* `tls_files`: TLS contexts from files.
* `acme`: certificates by ACME.
* `lane`: turns of the event loop, one after the other.
* `network_news`: networks that have come back.
"""
