"""Many servers that are one service: a client has its place at one node, visitors come to any.

.. code-block:: text

    visitors ─ DNS or a balancer ─┬─ node A ══ a hop ══ node B ─ client
                                  └───┴── directory ──┘

Each node knows all nodes and all routes from memory, so no byte of a tunnel ever waits for the
directory, which may be slow, frozen, emptied or gone.  The nodes meet there for four things:

* A *lease* of 10 s for each node, renewed every 3 s.  All that a node owns ends with it.
* *Claims*: an exclusive place, such as TCP port 8080, has one owner in the fleet.  Each owner has
  an *epoch* from one counter.  Where two believe to own a place, the later epoch has it, and the
  earlier owner yields.  A client's own older session yields at once, and one of the same user
  where it does not answer.
* *Statements*: what a node owns and counts, as one hash with a version.  Each change is one entry
  of the change stream, with the next version.
* *The stream*, which all follow.  Its numbers have no gaps: a node that misses one surveys
  everything again, and reads those statements whose version it does not have.  Bars, revocations
  and questions between nodes go this way, too.

After every doubt (no answer, another version than expected) a node makes its statement anew, and
claims back what it owns.  So a directory that has lost its last writes, or everything, is filled
again within a lease.  A node that is without it for longer than a lease keeps what it has, and
gives no new place (or takes it, and lets the epoch decide later).  While the network is divided,
both sides may serve one place to their own visitors; it has one owner a lease after it is whole
again.
This is no consensus: a place can have two owners for a moment, and what must not is for the kernel
of one machine to see to.

Pure rules, where time and messages go in, and operations and effects come out:

* `rules`: the rules of a node, made of the following ones.
* `claims`: its places and wishes.  `statements`: its statement.  `leases`: its lease.
* `views`: what it knows of the others, in the table of `routes`.  `choice`: where visitors go.
* `counts`: counts over all nodes.  `bars`: the sources that are barred.
* `records`, `entries`, `operations`, `effects`: the words of all of these.  `places`: their names.

The shell:

* `node`: the rules at work, for the server.  `failures`: failed logins at all nodes.
* `directory`: the directory, as nodes use it.
* `redis_directory`: the one in Redis or Valkey.  `redis_scripts`: its operations, in Lua.
  `redis_codec`: what goes there and comes back.  `redis_url`: where it is.

The server of a node:

* `member`: an ordinary server, and around it the node and all that follows.
* `reverse_places`: the places of its reverse remotes, claimed for the whole fleet.
* `ingress`: it listens for places of other nodes, and passes visitors on by the `peer_links`.
* `shown`: the fleet as administrators see it.
* `passed_visitors`: the other end of a hop.  `hop`: its target.  `credentials`: the login of nodes.

Nothing else imports this package unless a fleet is asked for.
"""
