"""The messages of the two ends inside SSH, and their meaning.  No I/O, no clock, no Trio.

Four nouns explain the package: a *dialect* is one of the two spellings of the protocol, chisel's
and that of its fork cotun.  A *remote* is one forward as the user writes it.  A *target* is its far
half alone.  The *config request* is the first message of a client after its login.

* `dialect`: the names in which the two spellings differ.
* `remote`: remotes, from the place where one listens to the target of each connection.
* `addresses`: the hosts, ports and paths that remotes are made of.
* `target`: targets, as the open of a channel carries them.
* `config`: the config request: the client's version, and the remotes that it asks for.
* `config_reply`: the answer to it, for a client of our own kind.
* `peer_json`: JSON from a peer, read as Go reads it.
* `bounded_json`: JSON of bounded depth.
* `gob`: datagrams in a channel, in Go's gob format.
* `socks5`: SOCKS 5, for connections that name their own target.
* `client_hello`: the first message of a TLS client.
* `proxy_url`: the URL of a proxy, from an option or the environment.
"""
