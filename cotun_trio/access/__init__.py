"""Who may come in: host keys, their fingerprints, users."""
