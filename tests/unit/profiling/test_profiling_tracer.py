"""The tracer on steps small enough to count by hand."""

import torch
from torch import nn

from neulite_sim.profiling.tracer import StepTracer, trace_steps


def test_a_storage_counts_from_its_making_to_its_last_reference():
    tracer = StepTracer()
    with tracer:
        kept = torch.zeros(100)
        gone = torch.zeros(1000)
        del gone
        assert tracer.live.temporaries == 400
    assert tracer.peak.temporaries == 4400
    del kept
    assert tracer.live.total == 0


def test_views_cost_nothing_and_move_nothing():
    tracer = StepTracer()
    with tracer:
        tensor = torch.zeros(10, 10)
        count = len(tracer.operators)
        _ = tensor.view(100).t()
    assert tracer.live.total == 400
    assert len(tracer.operators) == count


def test_bytes_moved_are_those_of_inputs_and_outputs_and_flops_those_of_the_product():
    left, right = torch.zeros(2, 3), torch.zeros(3, 4)
    tracer = StepTracer()
    with tracer:
        _ = left @ right
    (product,) = tracer.operators
    assert product.flops == 2 * 2 * 3 * 4
    assert product.bytes_moved == 4 * (6 + 12 + 8)


def test_a_linear_step_holds_parameters_momentum_gradient_and_inputs():
    model = nn.Linear(10, 5, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, foreach=False)
    images, labels = torch.zeros(2, 10), torch.zeros(2, dtype=torch.long)
    tracer = trace_steps(model, optimizer, lambda x, y: nn.functional.cross_entropy(model(x), y), (images, labels))
    live = tracer.live
    assert (live.parameters, live.optimizer, live.gradients, live.inputs) == (200, 200, 200, 96)
    assert tracer.peak.total >= live.parameters + live.optimizer + live.gradients


def test_the_split_adds_up_to_the_peak_and_reset_forgets_only_the_past():
    tracer = StepTracer()
    with tracer:
        tensor = torch.zeros(50)
        tracer.mark([tensor], "activations")
        assert tracer.peak.total == 200
        tracer.reset()
        assert tracer.peak.activations == 200
    assert tracer.operators == []
