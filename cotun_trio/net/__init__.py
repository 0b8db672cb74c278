"""Ways to a peer or a target: dialling, and later proxies and TLS."""
