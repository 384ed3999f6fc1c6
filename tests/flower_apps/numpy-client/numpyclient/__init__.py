"""numpy-client: a small Flower app."""
