"""The process and the system around it.

* `process`: descriptors, the log, memory and the garbage collector, before anything runs.
* `hang_up`: the other end of a descriptor, or the terminal, has gone.
* `first_process`: SIGTERM where the program is the first process of a container.
* `orphans`: there, it also has to wait for processes whose parents have ended.
* `pidfile`: a file with the number of the process.
* `standard_descriptors`: ``/dev/null`` where standard input, output or error is missing.
* `systemd`: sockets that are passed to us, and messages to the service manager.
* `task_tree`: the tasks that run, for SIGUSR2.
* `watch`: files that change.
* `unused_imports`: modules that libraries import and we never need.
"""
