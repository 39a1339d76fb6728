"""What a stage does, as tables: freezing, groups, rates, batches. The plan shows what the loop applies."""

from math import ceil

from finetune.data.dataset import Dataset, check_objective
from finetune.data.sampling import Sampling, sampling_of
from finetune.features import Features, Room, features_of
from finetune.freezing import Freezing, freezing_of
from finetune.groups import Grouping, groups_of
from finetune.lr import group_rates
from finetune.modules import blocks, within
from finetune.network import Blueprint
from finetune.spec.job import ResolvedSpec

NO_DISK = Room()


class StageTables:
    """What the plan shows of a stage and the loop applies: freezing, groups, rates."""

    def __init__(
        self, spec: ResolvedSpec, index: int, blueprint: Blueprint, dataset: Dataset, room: Room
    ) -> None:
        model, backbone, stage = blueprint.skeleton, blueprint.backbone, spec.stages[index]
        self.stage = stage
        self.name = str(stage.name)
        self.sampling: Sampling = sampling_of(
            stage, spec.objective, dataset, spec.batch_size, spec.seed, index
        )
        self.steps_per_epoch = ceil(self.sampling.count / stage.accumulate)
        self.freezing: Freezing = freezing_of(model, backbone.heads, stage.freeze, stage.batch_norm)
        self.grouping: Grouping = groups_of(
            model,
            backbone.heads,
            backbone.containers,
            self.freezing,
            stage.lr,
            spares=not stage.optimizer.decay_norms_and_biases,
        )
        images = len(dataset.train), len(dataset.val)
        found = features_of(spec, stage, blueprint, self.freezing, images, room)
        self.features: Features | None = None if isinstance(found, str) else found
        self.anew_because: str | None = found if isinstance(found, str) else None
        self.recomputed: tuple[str, ...] = ()  # blocks that the backward pass computes again
        if stage.gradient_checkpointing:
            self.recomputed = tuple(
                self._behind(blocks(model, backbone.containers, backbone.heads), backbone.heads)
            )

    @property
    def features_once(self) -> bool:
        """Whether what the frozen part gives is computed once for each image and view."""
        return self.features is not None

    def _behind(self, found: list[str], heads: tuple[str, ...]) -> list[str]:
        """Those of the blocks that run in each epoch, and for which keeping less is worth something."""
        if self.features is None:
            return found
        still = self.freezing.eval_modules
        return [block for block in found if block not in still and not within(heads, [block])]

    @property
    def trained_parameters(self) -> int:
        """How many numbers the stage trains."""
        return sum(group.count for group in self.grouping.groups)

    def rates(self, epoch: int, step: int) -> dict[str, float]:
        """Each group's learning rate at a step (0-based) of an epoch (0-based)."""
        factors = {group.name: group.factor for group in self.grouping.groups}
        return group_rates(self.stage, factors, self.steps_per_epoch, epoch, step)


def tables_of(
    spec: ResolvedSpec, blueprint: Blueprint, dataset: Dataset, room: Room = NO_DISK
) -> list[StageTables]:
    """The tables of all stages of a spec whose dataset and network are known.

    `room` is what features may take. A run's spec has the precision that `auto` stands for.

    Raises:
        SpecInvalid: the objective does not fit the dataset.
    """
    check_objective(spec.objective, dataset)
    return [StageTables(spec, index, blueprint, dataset, room) for index in range(len(spec.stages))]
