"""What the two ends say to each other inside SSH, and what it means.  No I/O, no clock, no Trio.

Three nouns explain the package:

* A **dialect** is one of the two spellings of the protocol: chisel's, and that of its fork cotun.
  They differ in a few names only (`dialect`).
* A **remote** is one forward as the user writes it: who listens where, and where each connection
  goes (`remote`).  Its far half alone, as a channel open carries it, is a *target*.
* The **config request** is the first thing a client says after login: its version, and the remotes
  that it asks for (`config`).
"""
