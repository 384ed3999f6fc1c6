"""Watching operators costs no import of PyTorch's compiler."""

import subprocess
import sys

from torch.utils._python_dispatch import TorchDispatchMode

from neulite_sim.methods import operators, streams
from neulite_sim.models import kernel_guard
from neulite_sim.models.fakes import mode
from neulite_sim.models.light_mode import LightMode
from neulite_sim.profiling import allocations, tracer


def subclasses(kind):
    return {below for each in kind.__subclasses__() for below in (each, *subclasses(each))}


def test_every_dispatch_mode_here_is_a_light_one():
    ours = {kind for kind in subclasses(TorchDispatchMode) if kind.__module__.startswith("neulite_sim.")}
    homes = {home.__name__ for home in (operators, streams, kernel_guard, mode, allocations, tracer)}
    assert homes <= {kind.__module__ for kind in ours}
    assert all(issubclass(kind, LightMode) for kind in ours)


def test_a_light_mode_imports_no_compiler():
    code = """
import sys, torch
from neulite_sim.models.light_mode import LightMode
class Mode(LightMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))
with Mode():
    torch.ones(2) + 1
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
