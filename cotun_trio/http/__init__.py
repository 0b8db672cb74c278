"""HTTP in front of the tunnel: the first request decides what a connection becomes."""
