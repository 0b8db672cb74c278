"""The client: it listens here, dials servers, and keeps one session open.

* `client`: the client itself, which puts the rest together; connections go to the session.
* `remotes`: the remotes that come and go, and their listeners.
* `managed_remote`: one of them.
* `told_remotes`: what the server has been told of them, and the task that keeps it in line.
* `connector`: tries the servers one after the other, and again after a wait.
* `attempts`: two attempts beside each other, of which the first to succeed is kept.
* `backoff`: how long the waits are.
* `uplink`: one connection to a server: TCP, proxy, TLS.
* `stdio_forward`: the stdio remote, and its end with the program that uses it.
* `session`: the client's side of a session, from the upgrade to the accepted remotes.
* `current_session`: the session that is open at present.
* `met_servers`: the keys of servers that were met before.
* `doctor`: the way to a server, examined step by step.
* `rights`: what a server may have of a client; `visitors`: what it has to know for them.
* `shown`: the client as its administrators see it.
"""
