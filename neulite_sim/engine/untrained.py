"""Updates of a run that trains nothing: of each only its size is known, and few are ever looked at."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from neulite_sim.methods.contract import Update
from neulite_sim.timeline.columns import Flights


class Untrained(Mapping[int, Update]):
    """Updates by flight, each made when somebody asks for it: without tensors, and with a loss that is not a number.

    `sizes` are the samples that each comes from, in the order of `flights`.
    """

    def __init__(self, flights: Flights, sizes: Sequence[int]) -> None:
        self.sizes = sizes
        self._flights = flights
        self._places: dict[int, int] | None = None

    def __len__(self) -> int:
        return len(self._flights)

    def __iter__(self) -> Iterator[int]:
        return iter(self._flights.numbers)

    def __getitem__(self, number: int) -> Update:
        if self._places is None:
            self._places = {each: place for place, each in enumerate(self._flights.numbers)}
        place = self._places[number]
        flights = self._flights
        return _update(
            device=int(flights.devices[place]),
            submodel=flights.submodels[place],
            version=flights.versions[place],
            num_samples=self.sizes[place],
        )

    def each(self) -> Iterator[Update]:
        """Yield all of them, in order."""
        flights = self._flights
        columns = (flights.devices.tolist(), flights.submodels, flights.versions, self.sizes)
        for device, submodel, version, size in zip(*columns, strict=True):
            yield _update(device=device, submodel=submodel, version=version, num_samples=size)

    def folded(self) -> list[Update]:
        """Return the mean of those of each submodel and version, as `methods.folding.Fold` does."""
        numbers: Counter[tuple[str, int]] = Counter(zip(self._flights.submodels, self._flights.versions, strict=True))
        samples = dict.fromkeys(numbers, 0)
        for submodel, version, size in zip(self._flights.submodels, self._flights.versions, self.sizes, strict=True):
            samples[submodel, version] += size
        return [
            _update(
                device=-1,
                submodel=submodel,
                version=version,
                num_samples=samples[submodel, version],
                num_updates=numbers[submodel, version],
            )
            for submodel, version in sorted(numbers)
        ]


def _update(*, device: int, submodel: str, version: int, num_samples: int, num_updates: int = 1) -> Update:
    return Update(
        device=device,
        submodel=submodel,
        num_samples=num_samples,
        tensors={},
        loss=math.nan,
        version=version,
        num_updates=num_updates,
    )
