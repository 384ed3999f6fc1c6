"""custom-strategy: a small Flower app."""
