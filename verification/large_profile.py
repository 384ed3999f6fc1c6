"""Profile a network that this machine could never train: seconds and memory that the prediction itself takes.

Run it from the checkout: `python verification/large_profile.py`. It profiles torchvision's MobileNetV2 at 3x224x224
with batches of 32, 64 and 128, each in a process of its own, and prints the predicted peak, the seconds of the profile
alone, and how far it raised the process's peak resident memory. Published: 13.5 GB measured at batch 128 (NeuLite, Wu
et al., AAAI 2025), allocator, workspaces and context included; 10.06 GB of tensors from an independent count.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

BATCHES = (32, 64, 128)
SHAPE = (3, 224, 224)
NAME = "mobilenet_v2"


def profiled(batch_size: int) -> str:
    """Return a line about one batch size; meant for a fresh process, whose peak it reads."""
    from neulite_sim.models.contract import Blueprint
    from neulite_sim.models.torchvision_classifier import Classifier
    from neulite_sim.models.trainee import FullModel
    from neulite_sim.profiling.profile import profile
    from neulite_sim.scenario.schema import Training

    architecture = Classifier(name=NAME)
    blueprint = Blueprint(architecture=architecture, input_shape=SHAPE, num_classes=100, name=NAME)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    found = profile("full", lambda: FullModel(blueprint), input_shape=SHAPE, batch_size=batch_size,
                    training=Training(batch_size=batch_size))  # fmt: skip
    seconds, cpu_seconds = time.perf_counter() - start_s, time.process_time() - start_cpu_s
    after_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (
        f"batch {batch_size:>3}: peak {found.peak_memory_bytes / 1e9:6.2f} GB, profiled in {seconds:.2f} s "
        f"({cpu_seconds:.2f} s of processor), resident memory of the process {after_kib / 1024:.0f} MiB, "
        f"{(after_kib - before_kib) / 1024:.0f} MiB of it for that"
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(profiled(int(sys.argv[1])))
    else:
        for batch in BATCHES:
            subprocess.run([sys.executable, __file__, str(batch)], check=True)
