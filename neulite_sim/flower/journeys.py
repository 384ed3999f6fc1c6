"""What was sent and has not been answered yet: a message on its way to a device and back, as a process of the clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from neulite_sim.timeline.flights import Flight, Outcome

if TYPE_CHECKING:
    from flwr.app import Message


@dataclass(slots=True, kw_only=True)
class Sent:
    """A message that the app has sent. `label` is what the app calls the round, `round` what the rows do.

    Without a flight the message never went out: `denial` says why, and the reply is an error.
    """

    number: int
    message: Message
    device: int
    name: str
    label: str | None
    round: int
    pushed_s: float
    lives_until_s: float
    flight: Flight | None = None
    outcome: Outcome | None = None
    denial: str = ""
    shortfall_bytes: int = 0
    bytes_down: int = 0
    bytes_up: int = 0
    loss: float | None = None
    samples: int = 0
    numbers: dict[str, float] = field(default_factory=dict)
    reply: Message | None = None
    answered_s: float = 0.0
    is_taken: bool = False
    journey: Any = None
    landing: Any = None

    @property
    def message_id(self) -> str:
        """The id that the app knows the message by."""
        return str(self.message.metadata.message_id)

    @property
    def is_ready(self) -> bool:
        """Whether there is a reply that nobody has taken."""
        return self.reply is not None and not self.is_taken

    @property
    def is_training(self) -> bool:
        """Whether its reply is an update."""
        return self.name == "train" or self.name.startswith("train.")
