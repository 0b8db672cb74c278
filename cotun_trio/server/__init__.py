"""The server: it accepts connections, lets users in, and carries what they ask for.

* `server`: where the rest is put together: listeners, users, certificates.
* `reception`: one accepted connection: TLS, its requests, and the session that one asks for.
* `session`: the server's side of a session, from the login to the accepted remotes.
* `reverse_listeners`: the listeners that clients ask for.
* `shared`: what several server processes share: limits, failed logins, reverse listeners.
* `accounts`: the users, from a file that is read again when it changes.
* `logins`, `login_threads`: passwords, checked in turn and in threads; wrong ones are punished.
* `authorisation`: the function of an embedding program that is asked who may have what.
* `certificates`, `acme_certificates`: TLS from files, or from an authority.
"""
