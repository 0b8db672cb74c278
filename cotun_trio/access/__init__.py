"""Access: host keys and their fingerprints, users and their passwords, limits for strangers.

* `host_keys`: the key pairs that servers prove themselves with.
* `host_key_options`: the host key that the options of a server name.
* `key_files`: files with host keys, read with care and written for their owner only.
* `pem_keys`: private keys in PEM files.
* `ck_keys`: private keys on one line.
* `seeded_keys`: keys made from a seed, as the Go programs make them.
* `fingerprints`: fingerprints of host keys, and how a client checks one.
* `credentials`: a user name and a password, as a client gives them.
* `users`: the users of a server, and the check of a login.
* `authfile`: the users file.
* `access_list`: the patterns that say where a user may go.
* `passwords`: passwords, plain or hashed.
* `hash_costs`: the time that the check of a hash takes, and warnings about slow ones.
* `login_queue`: the order in which passwords are checked.
* `penalties`: delays and bars for sources of failed logins.
* `sources`: the source of a connection, as limits and penalties count it.
* `startups`: limits on connections that have not logged in.
* `user_sessions`: limits on the sessions of one user.
"""
