"""The client: it listens here, dials servers, and keeps one session open.

* `client`: the listeners and what arrives at them; where the rest is put together.
* `connector`: tries the servers one after the other, and again after a wait.
* `attempts`: two attempts beside each other, of which the first to succeed is kept.
* `backoff`: how long the waits are.
* `uplink`: one connection to a server: TCP, proxy, TLS.
* `session`: the client's side of a session, from the upgrade to the accepted remotes.
"""
