"""Sockets: the ways to a peer or a target, and what listens.

* `dial`: dialling and listening.  `accept`: accepting connections.  `unix`: Unix-domain sockets.
* `sockets`: options of a socket, and its end.  `descriptors`: the last ones are kept in reserve.
* `transport`: a socket, with TLS or without.  `tls`: TLS without a socket.  `tls_files`: contexts.
* `acme`: certificates from an authority (RFC 8555).
* `proxy`: dialling through a proxy; `http_proxy`: through one that speaks HTTP.  `proxy_protocol`:
  the header of one in front of us.
* `local_address`: answers from the address that a datagram was sent to.
* `names`: looking names up.  `network_news`: noticing that a network has come back.
* `lane`: turns that are taken one after the other.  `poller`: sockets that are read again and
  again.  `rounds`: their order.  `fast_wait`: its place in front of Trio's wait.
"""
