"""What the two ends say to each other inside SSH, and what it means.  No I/O, no clock, no Trio.

Four nouns explain the package:

* A **dialect** is one of the two spellings of the protocol: chisel's, and that of its fork cotun.
  They differ in a few names only (`dialect`).
* A **remote** is one forward as the user writes it: who listens where, and where each connection
  goes (`remote`).  It is made of hosts, ports and paths (`addresses`).
* A **target** is its far half alone, as a channel open carries it (`target`).  What runs in the
  channel then is the connection's own business, but for two kinds: datagrams, which Go's gob puts
  one behind the other (`gob`), and connections that say by SOCKS where they want to go (`socks5`).
* The **config request** is the first thing a client says after login: its version, and the remotes
  that it asks for (`config`).  It is JSON (`peer_json`), and so is a server's answer to a client of
  our own kind (`config_reply`).
"""
