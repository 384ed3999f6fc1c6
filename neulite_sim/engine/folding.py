"""Which updates are added up as they come about, and their means when a round is digested."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from neulite_sim.engine.parts import Costing
from neulite_sim.errors import SimulationError
from neulite_sim.methods.contract import FoldOrder, Update
from neulite_sim.methods.folding import Fold, weighting_of
from neulite_sim.timeline.columns import Flights
from neulite_sim.timeline.endings import Endings
from neulite_sim.training.contract import Backend


class Folding:
    """Orders folds from the backend, or does what it does not do itself: the sums are the same."""

    def __init__(self, costing: Costing, backend: Backend) -> None:
        comes_together = getattr(costing.timing.protocol, "merges_whole_rounds", False)
        self._weighting = weighting_of(costing.method) if backend.trains and comes_together else None
        self._sizes = costing.partition.sizes
        self._collect = getattr(backend, "collect_fold", None)
        self._names = {"protocol": costing.scenario.protocol.label, "backend": costing.scenario.backend.kind}

    def order(self, flights: Flights) -> FoldOrder | None:
        """Return how updates that are begun together may be added up; None where each is wanted by itself."""
        if self._weighting is None or not len(flights) or not flights.end_as_planned:
            return None
        most_weight = int(self._sizes[flights.devices].sum()) if self._weighting == "samples" else len(flights)
        return FoldOrder(number=flights.numbers[0], weighting=self._weighting, most_weight=most_weight)

    def check_whole(self, merged: Endings, orders: Sequence[FoldOrder | None], begun: Mapping[FoldOrder, int]) -> None:
        """Check that all of what was `begun` by an order of these is merged, and as it is.

        Raises:
            SimulationError: flights that were begun together are merged in parts, or as steps from older versions.
        """
        for order in {order for order in orders if order}:
            pairs = zip(merged.mixings, orders, strict=True)
            whole = sum(own == order and mixing is None for mixing, own in pairs)
            if whole < begun[order]:
                raise SimulationError(
                    f"protocol {self._names['protocol']} says merges_whole_rounds, but of the {begun[order]} flights "
                    f"that it let train together it merges {whole} as they are; it has to merge all, or not to say so"
                )

    def folded(self, updates: Iterable[Update], orders: Sequence[FoldOrder | None]) -> Iterator[Update]:
        """Yield the updates that count by themselves, then the means of those that were folded.

        Raises:
            SimulationError: the backend did not fold what it was ordered to.
        """
        folds = {order: Fold(order) for order in orders if order}
        for update, order in zip(updates, orders, strict=True):
            if order is None:
                yield update
            elif self._collect is None:
                folds[order].add(update)
        for order, fold in folds.items():
            for part in self._collect(order.number) if self._collect else ():
                fold.merge(part)
            expected = sum(own == order for own in orders)
            if fold.num_updates != expected:
                raise SimulationError(
                    f"backend {self._names['backend']} folded {fold.num_updates} of {expected} updates; "
                    "collect_fold has to return all that was trained by an order, once"
                )
            yield from fold.updates()
