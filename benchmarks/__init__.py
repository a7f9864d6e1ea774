"""Programs that measure; each prints its figures, and writes them with `--output`."""
