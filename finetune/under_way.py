"""An epoch under way: how much of it is done, and what is known of it so far."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from finetune.clock import Clock
from finetune.loss_watch import LossWatch
from finetune.objectives import Tally
from finetune.tables import StageTables


@dataclass
class UnderWay:
    """An epoch (0-based) of stage `index`, of which `step` steps are done. `watch` looks at their losses."""

    index: int
    table: StageTables
    epoch: int
    tally: Tally
    watch: LossWatch
    step: int = 0
    clock: Clock = field(default_factory=Clock)

    @property
    def batches(self) -> int:
        """How many of the epoch's batches the steps took."""
        return self.step * self.table.stage.accumulate

    @property
    def trained(self) -> bool:
        """Whether no step is left."""
        return self.step == self.table.steps_per_epoch

    def to_state(self) -> dict[str, Any]:
        """All that the rest of the epoch depends on beside the network and what trains it."""
        return {"step": self.step, "tally": self.tally.to_state(), "clock": self.clock.to_state()}

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `to_state` gave."""
        self.step = state["step"]
        self.tally.restore(state["tally"])
        self.clock.go_on(state["clock"])
