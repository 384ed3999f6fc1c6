"""What is learned: local training as a pure function, the backends that run it, and evaluation."""
