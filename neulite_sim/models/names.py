"""Names that mean the same with every method; without PyTorch, so that reports and options may know them."""

from typing import Literal

FULL = "full"
"""The full model: the blueprint's, every parameter trainable. Profiled with every method: there the memory wall stands.

A method that trains it calls it so, and calls nothing else so; it is the model that is tested unless a method says
otherwise.
"""

Surrogate = Literal["conv", "conv-bn-relu", "none"]
"""What stands for a later block in NeuLite's output modules (`output.py`)."""
