"""How long a job will take, by what earlier ones with its backbone took: a pure function of their records."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from app.store.records import Json, Pace


@dataclass(frozen=True)
class Estimate:
    """Seconds, or None, and on what that rests."""

    seconds: float | None
    because: str


def estimate(spec: Json, train_images: int, paces: Sequence[Pace]) -> Estimate:
    """The time of a job with this resolved spec and so many training images.

    A stage goes as fast, by the image, as one of an earlier job that freezes the same and sees images alike;
    jobs of the same image size, batch size and precision go before others. What a job does beside its epochs
    (starting, computing features, the report) is taken to be as long as in the newest of these.
    """
    name = spec["backbone"]["name"]
    if not paces:
        return Estimate(None, f"no job with {name} has succeeded here yet")
    ordered = sorted(paces, key=lambda pace: _settings(pace.resolved_spec) != _settings(spec))
    total, used = 0.0, []
    for stage in spec["stages"]:
        found = next(((pace, one) for pace in ordered if (one := _image_seconds(pace, stage))), None)
        if found is None:
            return Estimate(None, f"no job with {name} has trained a stage like {stage['name']} here yet")
        used.append(found[0])
        total += found[1] * train_images * stage["epochs"]
    beside = max(0.0, _beside(used[0]))
    jobs = list(dict.fromkeys(pace.job_id for pace in used))
    return Estimate(round(total + beside, 1), f"as {' and '.join(jobs)} took")


def _settings(spec: Json) -> tuple[Any, ...]:
    return spec["image_size"], spec["batch_size"], spec["precision"], spec["dataset"]["path"]


def _kind(stage: Json) -> tuple[Any, ...]:
    return stage["freeze"], stage["augmentation"]["name"], stage["features_once"], stage["feature_views"]


def _image_seconds(pace: Pace, stage: Json) -> float | None:
    """Seconds by training image of an epoch of a stage of this kind; its validation counts."""
    stages = pace.resolved_spec["stages"]
    alike = {index for index, other in enumerate(stages) if _kind(other) == _kind(stage)}
    found = []
    for record in pace.epochs:
        images = record["images_per_second"] * (record["seconds"]["train"] + record["seconds"]["data"])
        if record["stage_index"] in alike and images > 0:
            found.append(sum(record["seconds"].values()) / images)
    return median(found) if found else None


def _beside(pace: Pace) -> float:
    """Seconds of a job that were in none of its epochs, where all of these are known."""
    stages = pace.resolved_spec["stages"]
    known = sum(sum(record["seconds"].values()) for record in pace.epochs)
    per_stage: dict[int, list[float]] = {}
    for record in pace.epochs:
        per_stage.setdefault(record["stage_index"], []).append(sum(record["seconds"].values()))
    unknown = sum(
        (stages[index]["epochs"] - len(seconds)) * median(seconds) for index, seconds in per_stage.items()
    )
    return float(pace.seconds - known - unknown)
