"""fedprox: a small Flower app."""
