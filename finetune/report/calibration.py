"""Expected calibration error, with the bins that it is made of."""

from typing import Any

import torch
from torch import Tensor

BINS = 10


def calibration_of(probabilities: Tensor, right: Tensor, bins: int = BINS) -> dict[str, Any]:
    """Sorts answers into bins of equal width by their probability, and compares it with how many are right.

    torchmetrics gives the error without its bins, and has a bin of its own for a probability of exactly 1,
    which a confident network rounds to often.

    Args:
        probabilities: float32 (N,), in [0, 1], N at least 1.
        right: bool (N,).
        bins: how many.

    Returns:
        The fields of `finetune.report.fields.Calibration`.
    """
    exact, edges = probabilities.double(), torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    place = (torch.bucketize(exact, edges, right=True) - 1).clamp(max=bins - 1)
    count = place.bincount(minlength=bins).double()
    confidence = place.bincount(exact, minlength=bins) / count
    accuracy = place.bincount(right.double(), minlength=bins) / count
    share = count / len(exact)
    error = ((accuracy - confidence).abs() * share)[count > 0].sum().item()
    columns = (edges[:-1], edges[1:], count.long(), share, confidence, accuracy)
    names = ("low", "high", "count", "share", "mean_confidence", "accuracy")
    rows = [
        dict(zip(names, row, strict=True))
        for row in zip(*(column.tolist() for column in columns), strict=True)
    ]
    for row in rows:
        if not row["count"]:
            row["mean_confidence"] = row["accuracy"] = None
    return {"error": error, "count": len(exact), "bins": rows}
