"""How much memory each device has for training, and how that moves."""
