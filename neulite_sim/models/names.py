"""Names of submodels that mean the same with every method; without PyTorch, so that reports may know them."""

FULL = "full"
"""The full model: the blueprint's, every parameter trainable. Profiled with every method: there the memory wall stands.

A method that trains it calls it so, and calls nothing else so; it is the model that is tested unless a method says
otherwise.
"""
