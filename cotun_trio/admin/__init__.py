"""The admin interface: HTTP for the people and programs that watch a server or a client.

It has a listener of its own, never the tunnel's, with its own small limits, and goes on answering
while the tunnel drains.  Nothing of it is imported unless ``--admin-listen`` asks for it.

* `choice`: the interface that the settings ask for.
* `interface`: its listener and its connections.  `access`: tokens, Host and Origin.
* `routes`: paths, and the operation for each of their methods.  `answers`: an answer, as HTTP;
  `streaming`: one that goes on.
* `operations`: the form of an operation and of its description.  `bodies`: a request's body.
* `probes`: health, readiness, figures.  `metrics`: the figures for Prometheus.
* `page`: the page for people.  `history`: the traffic of the last minutes.
* `sessions`: open sessions and their connections.  `bars`: sources barred for failed logins.
* `events`: events as they happen.  `log_level`: the level of the log.
* `openapi`: the document that describes it all.  `schemas`: the classes in it, as JSON Schema.
* `token_file`: the file of the token.
* `watched`: the server or the client, as the interface sees it.
"""
