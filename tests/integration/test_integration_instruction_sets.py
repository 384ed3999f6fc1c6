"""Training held to AVX2, the kernels of most ordinary processors, whatever this machine could do, in own processes.

Processors without AVX2 run these with what they have.
"""

import json
import os
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECKS = find_library("c_malloc_debug")
HELD = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MALLOC_CHECK_": "3", "OMP_NUM_THREADS": "1"}
if CHECKS:
    HELD["LD_PRELOAD"] = CHECKS

THIN_TRAINING = """
import json
import torch
from thin_models import blueprint, method
from neulite_sim.models.step import Stepper
from neulite_sim.models.trainee import lay_out
from neulite_sim.scenario.schema import Training

losses = {}
for kind in ("allsmall", "heterofl", "fedrolex", "neulite", "depthfl", "cocofl"):
    for width in (0.03125, 0.0625, 0.125):
        plan = blueprint("resnet18", (1, 16, 16), width)
        chosen = method(kind)
        for submodel in chosen.submodels:
            trainee = chosen.trainee(submodel, plan)
            lay_out(trainee)
            trainee.prepare()
            stepper = Stepper(trainee, Training(batch_size=16), learning_rate=0.05)
            images = torch.randn(16, 1, 16, 16).contiguous(memory_format=torch.channels_last)
            said = []
            stepper.step(images, torch.arange(16) % 10, lambda _, loss, __: said.append(float(loss.detach())))
            losses[f"{kind} {width} {submodel}"] = said[-1]
print(json.dumps(losses))
"""

SAME_BITS = """
import torch
import torch.nn.functional as F
from neulite_sim.models.pointwise import PointwiseConvolution

torch.set_num_threads(1)
differing = []
for channels in (8, 9, 12, 15):
    for outputs, side, batch in ((16, 8, 16), (16, 4, 14), (24, 16, 5), (30, 12, 2), (1, 6, 3)):
        torch.manual_seed(0)
        layer = PointwiseConvolution(channels, outputs, 2, bias=False)
        maps = torch.randn(batch, channels, side, side).to(memory_format=torch.channels_last)
        leaves = [maps.clone().requires_grad_() for _ in range(2)]
        weights = [layer.weight.detach().clone().requires_grad_() for _ in range(2)]
        layer.weight = torch.nn.Parameter(weights[0])
        ours, plain = layer(leaves[0]), F.conv2d(leaves[1], weights[1], stride=2)
        grad = torch.randn_like(plain)
        found = [ours, *torch.autograd.grad(ours, (leaves[0], layer.weight), grad)]
        expected = [plain, *torch.autograd.grad(plain, (leaves[1], weights[1]), grad)]
        if not all(map(torch.equal, found, expected)):
            differing.append((channels, outputs, side, batch))
print(differing)
"""


def held(*command):
    """Return what a Python process prints that is held to AVX2 and checks its heap; it must end well."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, *command], env={**os.environ, **HELD, "PYTHONPATH": path}, cwd=ROOT,
                          capture_output=True, text=True, timeout=300, check=False)  # fmt: skip
    assert done.returncode == 0, f"ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def lines():
    """What one process prints of both: with a checked heap, importing PyTorch is a good part of its time."""
    return held("-c", SAME_BITS + THIN_TRAINING).splitlines()


@pytest.mark.slow
def test_thin_resnets_train_without_a_crash(lines):
    losses = json.loads(lines[1])
    assert len(losses) > 30
    assert all(0 < loss < 20 for loss in losses.values())


@pytest.mark.slow
def test_eight_to_fifteen_channels_keep_the_bits_that_the_strided_convolution_has_with_avx2(lines):
    assert lines[0] == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_a_short_scan_of_convolutions_finds_nothing_that_the_guard_lets_pass(seed):
    """`verification/convolution_layouts.py` scans 1,500 shapes for each instruction set of the machine."""
    said = held("verification/convolution_layouts.py", "--isa", "AVX2", "--shapes", "12", "--seed", str(seed))
    assert said.splitlines()[-1] == "all holds"
    assert "AVX2: 12 shapes" in said
