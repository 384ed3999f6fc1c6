"""pytorch-image: a small Flower app."""
