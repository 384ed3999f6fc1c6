"""What follows each aggregation, in this order: rows, the selector's lesson, the test, and the checkpoint."""

from __future__ import annotations

from dataclasses import replace

from neulite_sim.engine.airspace import Airspace
from neulite_sim.engine.facts import RoundFacts, known_loss
from neulite_sim.engine.feedback import learns, tell_selector
from neulite_sim.engine.learning import Learning
from neulite_sim.engine.parts import Costing
from neulite_sim.engine.replay import Keeper
from neulite_sim.engine.testing import Testing
from neulite_sim.engine.tracking import Recorder
from neulite_sim.selection.contract import Selector
from neulite_sim.user_code.drawing import drawing_where


class Settling:
    """Settles one round after another."""

    def __init__(
        self,
        costing: Costing,
        selector: Selector,
        airspace: Airspace,
        learning: Learning,
        testing: Testing,
        recorder: Recorder,
        keeper: Keeper,
    ) -> None:
        self._scenario = costing.scenario
        self._trains = learning.trains
        self._num_samples = costing.partition.sizes
        self._selector = selector
        self._airspace = airspace
        self._learning = learning
        self._testing = testing
        self._recorder = recorder
        self._keeper = keeper

    def settle(self, facts: RoundFacts) -> None:
        """Write the round, tell the selector, test the model, and keep a checkpoint when one is due."""
        number = facts.round
        is_replayed = self._keeper.replays(number)
        wall_time_s = self._keeper.wall_time_s(number, lambda: self._recorder.wall_time_s)
        facts = replace(facts, wall_time_s=wall_time_s)
        if not is_replayed:
            self._tell_of_divergence(facts)
        if learns(self._selector):
            with drawing_where(self._scenario.selection.is_brought, self._scenario.seed, "selector.observe", number):
                tell_selector(self._selector, facts, self._num_samples)
        is_last = number == self._scenario.stop.rounds
        is_tested = is_last or number % self._scenario.evaluation.every_rounds == 0
        self._testing.round_ended(facts, is_tested=is_tested)
        if not is_last:
            with drawing_where(self._scenario.selection.is_brought, self._scenario.seed, "selector.answer", number):
                self._testing.answer(self._selector, number)
        if self._keeper.ends_replay(number):
            self._go_on(facts)
        elif not is_replayed and self._keeper.is_due(number) and not is_last:
            self._testing.collect()
            self._learning.checkpoint(number, lambda: self._came_to(facts))

    def _came_to(self, facts: RoundFacts) -> str:
        """Return the digest of what a replay has to come to: the rows, and what is in the air."""
        assert facts.report is not None, "these are the facts of now"
        return self._recorder.came_to(self._learning.state.version, self._airspace.aloft(), facts.report.proposal)

    def _go_on(self, facts: RoundFacts) -> None:
        saved = self._learning.go_on(self._came_to(facts))
        assert saved.round == facts.round
        self._recorder.restore(saved.wall_time_s)
        self._recorder.notice(f"rounds 1 to {facts.round} were taken from the journal; training goes on")

    def _tell_of_divergence(self, facts: RoundFacts) -> None:
        """Tell observers on which devices training ended in a loss that is not finite."""
        if not self._trains:
            return
        lost = sorted(update.device for update in facts.learned.values() if known_loss(update) is None)
        if lost:
            named = ", ".join([*map(str, lost[:5]), *(["..."] if len(lost) > 5 else [])])
            self._recorder.notice(
                f"round {facts.round}: local training diverged on {len(lost)} of {len(facts.learned)} devices "
                f"({named}); lower training.learning_rate or set training.clip_norm"
            )
