"""sklearn-tabular: a small Flower app."""
