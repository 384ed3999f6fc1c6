"""Folding: the updates of a round become one weighted mean per submodel, whoever trained them.

A method that needs nothing else of updates says so by `Method.folds_by`. Then each worker adds up what it trained, and
one sum travels from it in place of every update. The sums do not depend on their order (`methods.summation`), so how
many there are, and of which updates, leaves no trace in the bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from neulite_sim.errors import SimulationError
from neulite_sim.methods.contract import FoldOrder, Method, Update, Weighting
from neulite_sim.methods.joint_sum import JointSum


@dataclass(slots=True)
class _Group:
    """The updates of one submodel and version."""

    sums: JointSum
    num_samples: int = 0
    num_updates: int = 0


class Fold:
    """Updates that are added up as an order says; it may travel to other processes."""

    def __init__(self, order: FoldOrder) -> None:
        self._order = order
        self._groups: dict[tuple[str, int], _Group] = {}

    @property
    def num_updates(self) -> int:
        """How many updates it holds."""
        return sum(group.num_updates for group in self._groups.values())

    def add(self, update: Update) -> Update:
        """Take in an update, and return it without its tensors.

        Raises:
            SimulationError: its tensors are not those of the updates before of the same submodel.
        """
        group = self._groups.setdefault(
            (update.submodel, update.version), _Group(sums=JointSum(most_weight=self._order.most_weight))
        )
        _require_same_tensors(group, update)
        group.sums.add(update.tensors, round(update.weight(self._order.weighting)))
        group.num_samples += update.num_samples
        group.num_updates += 1
        return replace(update, tensors={})

    def merge(self, other: Fold) -> None:
        """Take in what another worker has folded by the same order."""
        for key, found in other._groups.items():
            group = self._groups.setdefault(key, _Group(sums=JointSum(most_weight=found.sums.most_weight)))
            group.sums.merge(found.sums)
            group.num_samples += found.num_samples
            group.num_updates += found.num_updates

    def updates(self) -> list[Update]:
        """Return a folded update for each submodel and version, in the order of these."""
        return [
            Update(
                device=-1,
                submodel=submodel,
                num_samples=group.num_samples,
                tensors=group.sums.means(),
                loss=float("nan"),
                version=version,
                num_updates=group.num_updates,
            )
            for (submodel, version), group in sorted(self._groups.items(), key=lambda item: item[0])
        ]


def _require_same_tensors(group: _Group, update: Update) -> None:
    found = {name: tuple(tensor.shape) for name, tensor in update.tensors.items()}
    if group.num_updates and group.sums.shapes != found:
        odd = sorted({name for name, _ in group.sums.shapes.items() ^ found.items()})
        raise SimulationError(
            f"the update of device {update.device} ({update.submodel}) and one before it differ in what they hold: "
            f"{', '.join(odd[:3])}; a method that folds (Method.folds_by) uploads the same tensors of a submodel always"
        )


def weighting_of(method: Method) -> Weighting | None:
    """Return by which weights updates may be folded for a method; None where it wants to see each of them.

    What a class says of folding holds for its own `digest`, and not for one that a subclass has put in its place.
    """
    kinds = type(method).__mro__
    folds = next(place for place, kind in enumerate(kinds) if "folds_by" in vars(kind))
    digests = next(place for place, kind in enumerate(kinds) if "digest" in vars(kind))
    return method.folds_by if folds <= digests else None
