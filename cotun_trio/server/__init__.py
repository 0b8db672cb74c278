"""The server: it accepts connections, lets users in, and carries their connections.

* `server`: where the rest is put together.
* `listening`: how connections come: by listening sockets, or by another process.
* `files`: the host key, the users and the certificate, and the watch over their files.
* `reception`: the connections and sessions, and the state that they share.
* `arrival`: one connection on its way in: TLS, its requests, and the session that one asks for.
* `side_doors`: health checks, and an authority's challenges.
* `session`: the server's side of a session, from the login to the accepted remotes.
* `admission`: the login of a client, and its place among its user's sessions.
* `client_remotes`: the remotes of a client that have been accepted, and their listeners.
* `rights`: the rights of a client.
* `reverse_listeners`: the listeners that clients ask for; `visitors`: who comes to them.
* `shared`: what several server processes share: limits, failed logins, reverse listeners.
* `peers`: the other servers of a fleet, which pass visitors on.
* `accounts`: the users, from a file that is read again when it changes.
* `logins`, `login_threads`: passwords, checked in turn and in threads; wrong ones are punished.
* `shown`: the server as its administrators see it.
* `open_doors`: a warning about a server that lets everybody in.
* `authorisation`: the function of an embedding program that is asked for each connection.
* `certificates`, `acme_certificates`: TLS from files, or from an authority.
"""
