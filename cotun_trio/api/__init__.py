"""What programs embed: a client, a server, and what they give.  `cotun_trio` has their names."""
