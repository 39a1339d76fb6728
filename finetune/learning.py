"""Noticing while it runs that a job learns nothing."""

from collections.abc import Mapping, Sequence

PATIENCE = 2  # epochs; one bad epoch is common after the thaw of a large part
ADVICE = (
    "A smaller rate or a warm-up usually helps, or more frozen layers; "
    "if the rates are tiny already, larger ones"
)
EMBEDDING_ADVICE = (
    "A smaller rate or a warm-up usually helps, mining semihard or all where it is hard, "
    "or larger batches (classes_per_batch, images_per_class)"
)
LEAST_SPREAD = 0.1  # of the margin; closer together no two images can be told apart by it
AT_THE_MARGIN = 0.99


def nothing_learnt(
    accuracy: float, predicted: Sequence[int], labelled: Sequence[int], classes: Sequence[str]
) -> str | None:
    """What shows that a network is no better than always giving one answer, or None where it is.

    `predicted` and `labelled` say how often each class was given and was right, in the order of `classes`.
    """
    if sum(count > 0 for count in predicted) == 1:
        only = classes[max(range(len(classes)), key=predicted.__getitem__)]
        return f"every validation image was taken for {only!r}"
    share = max(labelled) / sum(labelled)
    if accuracy < share:
        largest = classes[max(range(len(classes)), key=labelled.__getitem__)]
        return f"the accuracy is {accuracy:.3f}, and always saying {largest!r} would give {share:.3f}"
    return None


def collapsed(spread: float, loss: float, active: float, margin: float) -> str | None:
    """What shows that an embedding tells no classes apart, or None where it does.

    `spread` is the root mean square distance of two images, `loss` the mean over all triplets, `active` the
    share of triplets that violate the margin.
    """
    if spread < LEAST_SPREAD * margin:
        return f"the embedding has collapsed: two images are {spread:.2g} apart, and the margin is {margin:g}"
    if active > AT_THE_MARGIN and loss > AT_THE_MARGIN * margin:
        return (
            f"the loss stands at the margin ({loss:.3g} of {margin:g}): "
            "images of one class are as far apart as those of two"
        )
    return None


def alarm(stage: str, sign: str, rates: Mapping[str, float], advice: str = ADVICE) -> str:
    """The sentence for the job's owner, with the stage, the rates and what usually helps."""
    shown = ", ".join(f"{name} {rate:g}" for name, rate in rates.items())
    return f"stage {stage!r} has learnt nothing for {PATIENCE} epochs: {sign} (rates: {shown}). {advice}"
