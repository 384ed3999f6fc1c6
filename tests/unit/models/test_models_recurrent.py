"""Recurrent layers are charged what they take: their step in a profile is the one that is trained."""

import pytest
import torch
from torch import nn

from neulite_sim.models.contract import Blueprint
from neulite_sim.models.given import given_architecture
from neulite_sim.models.recurrent import in_plain_operators
from neulite_sim.models.trainee import FullModel
from neulite_sim.profiling.audit import audit
from neulite_sim.profiling.profile import profile
from neulite_sim.samples import InputSpec
from neulite_sim.scenario.schema import Training

TEXT = InputSpec(shape=(12,), num_classes=3, vocabulary=40)


def classifier(kind: type[nn.Module], **options: object) -> Blueprint:
    class Text(nn.Module):
        def __init__(self, num_classes: int) -> None:
            super().__init__()
            self.embedding = nn.Embedding(40, 24)
            self.layer = kind(24, 16, batch_first=True, **options)
            self.head = nn.Linear(32 if options.get("bidirectional") else 16, num_classes)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            states, _ = self.layer(self.embedding(ids))
            return self.head(states[:, -1])

    return Blueprint(architecture=given_architecture(Text), spec=TEXT)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "dropout": 0.1}])
def test_the_predicted_peak_is_the_tracked_one(kind, options):
    blueprint, training = classifier(kind, **options), Training(batch_size=8)
    how = {"spec": TEXT, "batch_size": 8, "training": training}
    predicted = profile("full", lambda: FullModel(blueprint), **how).peak_memory_bytes
    assert audit(lambda: FullModel(blueprint), **how).total == pytest.approx(predicted, rel=0.01)


@pytest.mark.slow
def test_an_lstm_has_four_times_the_work_of_a_plain_recurrence():
    how = {"spec": TEXT, "batch_size": 8, "training": Training(batch_size=8)}
    lstm, plain = (profile("full", lambda kind=kind: FullModel(classifier(kind)), **how) for kind in (nn.LSTM, nn.RNN))
    head = 3 * 2 * 8 * 16 * 3
    assert (lstm.flops_per_step - head) / (plain.flops_per_step - head) == pytest.approx(4, rel=0.05)


def test_outside_of_its_forward_nothing_is_switched_off():
    class Failing(nn.LSTM):
        def forward(self, inputs, state=None):
            assert not torch._C._get_mkldnn_enabled()
            raise ValueError("as it is")

    layer = Failing(4, 4)
    in_plain_operators(layer)
    in_plain_operators(layer)
    with pytest.raises(ValueError, match="as it is"):
        layer(torch.zeros(2, 1, 4))
    assert torch._C._get_mkldnn_enabled()
