"""Which sizes images get in evaluation and in training, and what is wrong with those that a spec asks for."""

from dataclasses import replace

from finetune.backbones import Backbone, check_image_size
from finetune.backbones.weights import Source
from finetune.data.preprocessing import LARGEST, Preprocessing
from finetune.errors import SpecInvalid
from finetune.spec.job import JobSpec
from finetune.spec.problems import Problem

TRAIN_SIZE = "preprocessing.train_size"
EVAL_RESIZE = "preprocessing.eval_resize"


def check_train_size(backbone: Backbone, size: int) -> None:
    """Whether the network takes training views of that size; one made for a single size takes no other.

    Raises:
        SpecInvalid: it does not.
    """
    if backbone.size_option:
        return  # `sizes_of` compares it with evaluation's
    try:
        check_image_size(backbone, size)
    except SpecInvalid as error:
        raise SpecInvalid([replace(problem, param=TRAIN_SIZE) for problem in error.problems]) from error


def sizes_of(spec: JobSpec, backbone: Backbone, source: Source | None) -> tuple[Preprocessing, Preprocessing]:
    """How images are prepared for evaluation and for training: as the weights expect, else the backbone.

    `image_size` changes evaluation's crop with the resized side in proportion, `eval_resize` then that side.
    Training prepares images likewise; `train_size` changes its crop, again in proportion.

    Raises:
        SpecInvalid: the sizes do not go together, or not with the network.
    """
    asked = spec.preprocessing
    usual = source.preprocessing if source and source.preprocessing else backbone.preprocessing
    evaluation = usual.at(spec.image_size)
    crop, problems = evaluation.crop, []
    if asked.eval_resize is not None:
        evaluation = replace(evaluation, resize=asked.eval_resize)
        if asked.eval_resize < crop:
            message = f"is smaller than the {crop} pixels that evaluation cuts out of it: give {crop} or more"
            problems.append(Problem(EVAL_RESIZE, message, "eval_resize_too_small"))
    training = evaluation.at(asked.train_size)
    if backbone.size_option and training.crop != crop:
        message = (
            f"{backbone.name} is made for images of one size, {crop} pixels here: leave train_size out, "
            "or set image_size for training and evaluation"
        )
        problems.append(Problem(TRAIN_SIZE, message, "train_size_unfit"))
    for param, prepared in (("image_size", evaluation), (TRAIN_SIZE, training)):
        if prepared.resize > LARGEST and not problems:
            message = (
                f"images would be resized to {prepared.resize} pixels before {prepared.crop} are cut out, "
                f"the most is {LARGEST}: take a smaller size, or an eval_resize nearer to it"
            )
            problems.append(Problem(param, message, "image_size_unfit"))
    if problems:
        raise SpecInvalid(problems)
    return evaluation, training
