"""message-api: a small Flower app."""
