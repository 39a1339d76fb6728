"""What a stage does, as tables: freezing, groups, rates, batches. The plan shows what the loop applies."""

from math import ceil

from finetune.data.dataset import Dataset, check_objective
from finetune.data.sampling import Sampling, sampling_of
from finetune.features import MEMORY_LIMIT, head_input, only_head_trains
from finetune.freezing import Freezing, freezing_of
from finetune.groups import Grouping, groups_of
from finetune.lr import group_rates
from finetune.modules import blocks
from finetune.network import Blueprint
from finetune.spec.job import ResolvedSpec


class StageTables:
    """What the plan shows of a stage and the loop applies: freezing, groups, rates."""

    def __init__(self, spec: ResolvedSpec, index: int, blueprint: Blueprint, dataset: Dataset) -> None:
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
        self.features_once = self._features_once(blueprint, len(dataset.train))
        self.recomputed: tuple[str, ...] = ()  # blocks that the backward pass computes again
        if stage.gradient_checkpointing and not self.features_once:
            self.recomputed = tuple(blocks(model, backbone.containers, backbone.heads))

    @property
    def trained_parameters(self) -> int:
        """How many numbers the stage trains."""
        return sum(group.count for group in self.grouping.groups)

    def rates(self, epoch: int, step: int) -> dict[str, float]:
        """Each group's learning rate at a step (0-based) of an epoch (0-based)."""
        factors = {group.name: group.factor for group in self.grouping.groups}
        return group_rates(self.stage, factors, self.steps_per_epoch, epoch, step)

    def _features_once(self, blueprint: Blueprint, images: int) -> bool:
        model, heads = blueprint.skeleton, blueprint.backbone.heads
        if not only_head_trains(model, heads, self.stage, self.freezing):
            return False
        taken = head_input(model, heads[0], blueprint.training_preprocessing.crop)
        return taken is not None and taken.gives_the_output and taken.bytes(images) <= MEMORY_LIMIT


def tables_of(spec: ResolvedSpec, blueprint: Blueprint, dataset: Dataset) -> list[StageTables]:
    """The tables of all stages of a spec whose dataset and network are known.

    Raises:
        SpecInvalid: the objective does not fit the dataset.
    """
    check_objective(spec.objective, dataset)
    return [StageTables(spec, index, blueprint, dataset) for index in range(len(spec.stages))]
