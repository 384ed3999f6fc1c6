"""Tensors without numbers, whose first use does not import PyTorch's compiler."""
