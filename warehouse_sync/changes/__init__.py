"""Which rows are new or changed: what to read (window), what to send (compare), what was sent (snapshot)."""
