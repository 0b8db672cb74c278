"""Access: the host key that a server proves itself with, and the users that it lets in.  No
network, no clock, no Trio; files are read.

* `files`: files that people write, and who may change them.

The server's identity:

* `host_keys`: host keys.  `host_key_options`: the options that say which one a server has.
* `ck_keys`, `pem_keys`, `seeded_keys`: the three ways to write a key.  `key_files`: their files.
* `fingerprints`: how a client knows the right server.  `known_hosts`: the servers that it has met.

The users:

* `credentials`: a user and a password.  `passwords`: how a users file has them, plain or hashed;
  `hash_costs`: the time that the check of a hash takes.
* `users`: the users, each with an `access_list`.  `authfile`: the file that they are in.
  `address_patterns`: patterns that mean addresses and let names in.

Limits on peers that have not logged in, or too often:

* `sources`: an address as limits count it.  `startups`: connections without a login.
* `login_queue`: the order in which passwords are checked.  `penalties`: what wrong ones cost.
* `user_sessions`: how many sessions a user may have.
"""
