"""PyTorch's names before PyTorch is loaded."""

import copy
import pickle

import torch as real

from neulite_sim.later import F, Tensor, nn, torch


def test_what_is_asked_of_a_name_is_asked_of_the_real_one(monkeypatch):
    assert (torch.zeros, nn.Linear, F.relu, Tensor.abs) == (real.zeros, real.nn.Linear, real.nn.functional.relu, real.Tensor.abs)  # fmt: skip
    monkeypatch.setattr(real, "zeros", max)
    assert torch.zeros is max


def test_a_name_can_be_pickled_and_copied_with_the_module_that_holds_it():
    for name in (torch, nn, Tensor):
        assert pickle.loads(pickle.dumps(name)).__dict__ == copy.deepcopy(name).__dict__ == name.__dict__
