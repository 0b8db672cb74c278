"""The client: it listens here, dials servers, and keeps a session open, or several.

* `client`: the client itself, which puts the rest together; connections go to the sessions.
* `remotes`: the remotes that come and go, and their listeners.
* `managed_remote`: one of them.
* `told_servers`: all servers that are told of them, and what comes of that.
* `told_remotes`: what a server has been told of them, and the task that keeps it in line.
* `connectors`: as many as there should be sessions, and what they share.
* `connector`: one of them: tries the servers one after the other, and again after a wait.
* `spread`: leads them to different servers.
* `attempts`: two attempts beside each other, of which the first to succeed is kept.
* `backoff`: how long the waits are.
* `uplink`: one connection to a server: TCP, proxy, TLS.
* `stdio_forward`: the stdio remote, and its end with the program that uses it.
* `session`: the client's side of a session, from the upgrade to the accepted remotes.
* `open_sessions`: those that are open at present, and which of them a connection goes to.
* `running_sessions`: all of them as tasks, those that are being opened or end included.
* `met_servers`: the keys of servers that were met before.
* `doctor`: the way to a server, examined step by step.
* `rights`: what a server may have of a client; `visitors`: what it has to know for them.
* `shown`: the client as its administrators see it.
"""
