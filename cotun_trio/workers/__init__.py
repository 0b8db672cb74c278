"""Several processes that are one server: ``cotun-trio server --workers``.

One Python process uses one processor.  With workers, a *supervisor* opens the listening sockets,
accepts, and hands each connection to the *worker* that has the fewest, which serves it to its end.
Where that one does not take it in a moment, it is taken back and handed to another one.

A tunnel has few connections, and they live long: to share them out one by one is better than to let
the kernel do it by a hash (SO_REUSEPORT), a worker that dies takes no queue with it, and one that
has to end is given nothing more.

* `control`: the messages between the two, bytes in, messages out.
* `link`: the same on a socket.
* `handover`: accepted connections, given to a worker, and taken back.
* `shared_counts`: counts in memory that all processes have, for limits on the whole.
* `attention`: whether a worker answers.
* `progress`: the sign of a worker that it does not stand still.
* `roster`: which worker gets a connection.
* `dispatch`: connections given to that worker, or to another one.
* `restarts`: when a worker is started in the place of one that has died.
* `spawn`: the process of a worker, started and seen to its end.
* `member`: one worker, as the supervisor sees it.
* `crew`: all workers of the supervisor.
* `rulings`: the questions of workers, and the supervisor's answers.
* `supervisor`: the parent.
* `worker`: the child, a `cotun_trio.server.server.Server` that is handed its connections.

A worker is a fresh process, not a fork of one with a running event loop.  It has a socket to the
supervisor as a descriptor, and gets the rest through that: the settings and the host key.  Nothing
is secret in its command line or its environment.  The end of the socket is the end of the
supervisor, and then the worker ends, too, in its own good time.

What is right across all workers, and how exactly:

* Limits on connections are checked against the sum of all counts.  Several workers can look at the
  same moment, so that there may be as many too many as there are other workers.  Sources and users
  are counted by a keyed hash of 16 bits; two that share one are counted together.
* Failed logins are counted by the supervisor, which has a source barred in all workers at once.
  Each worker may be judging one more login of it just then.
* A reverse port goes to a client that comes back, whichever worker it comes back to.
"""
