"""The API for programs that embed a client or a server.  `cotun_trio` has its names.

* `client`: `open_client`, and the client that it gives.
* `server`: `open_server`, and the server that it gives.
* `forwards`: the forwards of a client, as its owner sees them.
* `events`: the events of a client's tunnel, and subscriptions to them.
* `core`: the client behind the API.
* `lifetime`: a client or a server in the background of an ``async with`` block.
"""
