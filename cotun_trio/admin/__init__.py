"""The admin interface: HTTP for the people and programs that watch a server or a client.

It has a listener of its own, never the tunnel's, with its own small limits, and goes on answering
while the tunnel drains.  Nothing of it is imported unless ``--admin-listen`` asks for it.

* `choice`: the interface that the settings ask for.
* `interface`: its listener and its connections.  `access`: tokens, Host and Origin.
* `resources`: paths and their answers.  `answers`: an answer, as HTTP.
* `metrics`: the figures for Prometheus.  `token_file`: the file of the token.
* `watched`: the server or the client, as the interface sees it.
"""
