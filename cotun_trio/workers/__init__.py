"""Several processes that are one server: ``cotun-trio server --workers``.

One Python process uses one processor.  With workers, a *supervisor* opens the listening sockets,
accepts connections, and hands each to the *worker* that has the fewest, which serves it to its end.
A connection that its worker does not take in a moment is taken back and handed to another worker.

A tunnel has few connections, and they live long: it is better to share them out one by one than to
let the kernel do it by a hash (SO_REUSEPORT).  Besides, a worker that dies takes no queue with it,
and a worker that has to end is given nothing more.

The supervisor's process:

* `supervisor`: listens, accepts, and is the server to its user and to the service manager.
* `worker_pool`: the workers: started, heard, replaced, retired.
* `worker_handle`: one worker, as the supervisor sees it.
* `launch`: the launch of a worker: its slot, its process, its link, and the first message to it.
* `spawn`: the process of a worker, started and seen to its end.
* `restarts`: when a worker is started again in the place of one that has ended.
* `balancer`: the choice of the worker that gets a connection.
* `dispatch`: accepted connections go to workers, and to others where one does not take them.
* `attention`: whether a worker answers.
* `shown`: all of them as one server, for its admin interface.
* `shared_rules`: decisions for all workers: failed logins, and listeners that are claimed.

A worker's process:

* `__main__`: the program that `spawn` starts.
* `worker`: a `cotun_trio.server.server.Server` that is handed its connections.
* `reports`: answers and events for the admin interface, which is the supervisor's.
* `progress`: counts the steps of its tasks, which show that it does not stand still.

Between them:

* `control`: the messages of both, as bytes.  `values`: what is in them, as JSON.
* `account`: the figures and meters of a worker, or of several.
* `control_link`: the same on a socket: questions and answers.
* `handover`: accepted connections on their way to a worker: given, taken, or taken back.
* `shared_counts`: counts in memory that all processes share, for limits on the whole server.

A worker is a fresh process, not a fork of one with a running event loop.  It inherits a socket to
the supervisor, and gets the settings and the host key through that.  Nothing is secret in its
command line or its environment.  When the socket ends, the supervisor has ended; then the worker
ends, too, after the usual grace.

The limits of all workers together, and how exact they are:

* Limits on connections are checked against the sum of all counts.  Several workers can check at the
  same moment, so the limit can be exceeded by the number of other workers.  Sources and users
  are counted by a keyed hash of 16 bits; two that share a hash are counted together.
* Failed logins are counted by the supervisor, which has a source barred in all workers at once.
  Each worker may be checking one more login of that source just then.
* A reverse port goes to a client that comes back, also when it comes back to another worker.
"""
