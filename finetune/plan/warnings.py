"""What a plan warns of."""

from finetune.compiling import obstacle
from finetune.data.dataset import Dataset, weights_of
from finetune.freezing import BATCH_NORM, alternates
from finetune.network import Blueprint
from finetune.spec.job import ResolvedSpec
from finetune.tables import StageTables


def warnings_of(
    spec: ResolvedSpec, blueprint: Blueprint, dataset: Dataset, tables: list[StageTables]
) -> list[str]:
    """What the owner of a spec should know before it runs."""
    warnings = []
    if spec.dataset.val_fraction is not None and dataset.has_val_split:
        warnings.append("dataset.val_fraction has no effect: the dataset has a val split of its own")
    if spec.range_test is not None:
        test = spec.range_test
        warnings.append(
            f"range_test: nothing is trained; the first stage is tried at rates from {test.start_lr:g} to "
            f"{test.end_lr:g} in {test.steps} steps, and no schedule, epoch or later stage is used"
        )
    if blueprint.head.action == "removed" and spec.head.keep == "never":
        warnings.append('head.keep "never" has no effect: there is no head')
    if spec.head.dropout and blueprint.head.action == "kept":
        warnings.append("head.dropout is applied to a head that is kept as it was")
    weights = getattr(spec.objective, "class_weights", "none")  # the triplet objective has none
    for index, table in enumerate(tables):
        if spec.batch_size * table.stage.accumulate == 1 and weights_of(dataset.train):
            warnings.append(
                f"stage {table.name!r}: the images' weights have no effect: they weigh the images of a step "
                "against one another, and a step takes one"
            )
        reason = obstacle(table)
        if spec.compile == "on" and reason is not None:
            warnings.append(f"stage {table.name!r}: compile has no effect: {reason}")
        warnings += [
            f"stage {table.name!r}: {text}" for text in _stage_warnings(table, blueprint, index == 0, weights)
        ]
    return warnings


def _stage_warnings(table: StageTables, blueprint: Blueprint, first: bool, class_weights: str) -> list[str]:
    model, heads, freezing = blueprint.skeleton, blueprint.backbone.heads, table.freezing
    warnings = []
    sandwich = alternates(model, heads, freezing)
    if sandwich:
        before, frozen, after = sandwich
        warnings.append(
            f"{frozen} is frozen between {before} and {after}, which are trained: it rarely helps"
        )
    warnings += [f"the factor of {name!r} touches only frozen modules" for name in table.grouping.idle]
    still = [group.name for group in table.grouping.groups if group.factor == 0]
    warnings += [f"the group {name!r} has factor 0: it is trained at a rate of 0" for name in still]
    optimizer = table.stage.optimizer
    if not optimizer.decay_norms_and_biases and optimizer.weight_decay == 0:
        warnings.append("decay_norms_and_biases has no effect: weight_decay is 0")
    if first and blueprint.source is None and freezing.parameters:
        warnings.append("what is frozen has random weights, as backbone.weights is null")
    stopping = table.stage.early_stopping
    if stopping is not None and stopping.patience >= table.stage.epochs:
        warnings.append(f"early_stopping has no effect: a patience of {stopping.patience} is the whole stage")
    if table.stage.sampler == "balanced" and class_weights == "balanced":
        warnings.append("the sampler and the class weights both balance the classes: small ones count double")
    if table.stage.gradient_checkpointing and not table.recomputed:
        warnings.append("gradient_checkpointing has no effect: its features are computed once")
    if table.stage.feature_views is not None:
        warnings += _view_warnings(table)
    normalised = any(isinstance(m, BATCH_NORM) and n in freezing.modules for n, m in model.named_modules())
    if table.stage.batch_norm == "update" and not normalised:
        warnings.append('batch_norm "update" has no effect: no frozen module has BatchNorm')
    return warnings


def _view_warnings(table: StageTables) -> list[str]:
    views, epochs = table.stage.feature_views, table.stage.epochs
    if table.anew_because is not None:
        return [f"feature_views has no effect: {table.anew_because}"]
    if views is not None and views > epochs:
        return [f"feature_views {views} is more than the {epochs} epochs take: each has views of its own"]
    return []
