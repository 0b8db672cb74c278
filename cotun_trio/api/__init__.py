"""What programs embed: a client, a server, and what they give.  `cotun_trio` has their names.

* `client`, `server`: `open_client` and `open_server`, and the objects that they give.
* `forwards`: a remote, and a listener on the server, as their owner sees them.
* `events`: what happens to a client's tunnel.
* `core`: the client behind the API.
* `lifetime`: something that runs in the background of an ``async with`` block.
"""
