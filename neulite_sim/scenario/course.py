"""The sections of a scenario about the course of a run: when it is tested, when it is kept, and when it ends."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from neulite_sim.bounds import MOST_BATCH, MOST_ITEMS, BatchSize, Duration, RoundCount, Share
from neulite_sim.registry import Options, refusal, refuse_inert


class Evaluation(Options):
    """When and how the global model is tested."""

    every_rounds: RoundCount = 1
    """The model is tested after each so many rounds, and after the last."""
    batch_size: BatchSize = 256
    """Test samples per forward pass."""
    batch_norm: Literal["running", "recalibrated"] = "running"
    """`recalibrated` rebuilds BatchNorm statistics from training samples before each test."""
    recalibration_samples: int = Field(default=512, ge=2, le=MOST_BATCH)
    """Number of training samples that `recalibrated` uses."""
    diagnostics: Annotated[tuple[Literal["nhsic_plane"], ...], Field(max_length=MOST_ITEMS)] = ()
    """What each test measures beside loss and accuracy, into diagnostics.csv. `nhsic_plane`: nHSIC(X; Z) and
    nHSIC(Y; Z) of every block, at the price of one more forward pass of `diagnostic_samples` images, all at once."""
    diagnostic_samples: int = Field(default=256, ge=3, le=4096)
    """Number of training samples for diagnostics, the same at every test; all where there are fewer."""
    targets: Annotated[tuple[Share, ...], Field(max_length=MOST_ITEMS)] = (0.5, 0.6, 0.7, 0.8, 0.9)
    """Accuracies whose first virtual time is reported."""

    @model_validator(mode="after")
    def _samples_belong_to_recalibration(self) -> Self:
        usual = type(self).model_fields["recalibration_samples"].default
        if self.batch_norm == "running" and self.recalibration_samples != usual:
            raise refusal(
                f"acts only with batch_norm recalibrated, found {self.recalibration_samples} with running; "
                f"remove it, or set evaluation.batch_norm",
                "recalibration_samples",
                given=self.recalibration_samples,
            )
        return self

    @model_validator(mode="after")
    def _diagnostics_act(self) -> Self:
        if len(set(self.diagnostics)) < len(self.diagnostics):
            twice = next(name for name in self.diagnostics if self.diagnostics.count(name) > 1)
            raise refusal(f"names {twice} twice; name each once", "diagnostics", given=self.diagnostics)
        if not self.diagnostics:
            refuse_inert(self, {"diagnostic_samples": "evaluation.diagnostics"})
        return self


class Stop(Options):
    """The run ends at the first of these."""

    rounds: RoundCount
    """Number of rounds after which the run ends at the latest."""
    target_accuracy: Share | None = None
    """Test accuracy at which the run ends."""
    virtual_time: Duration | None = None
    """Virtual time at which the run ends, such as 48h."""


class Checkpoint(Options):
    """How often a run keeps what `neulite-sim resume` needs beside the journal: the weights."""

    every_rounds: RoundCount = 10
    """A checkpoint is written after each so many rounds; a run that is killed loses what came after the last. Where it
    is not given, some are left out if writing them would take more than a twentieth of the time."""
