"""Triplet loss on batches of P classes with K images each, validated by which images lie near which."""

import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner, TripletMarginMiner
from pytorch_metric_learning.reducers import AvgNonZeroReducer, MeanReducer
from torch import Tensor

from finetune.learning import EMBEDDING_ADVICE, collapsed
from finetune.objectives.base import Evaluation, Forward, LabelledBatches, total_weight
from finetune.objectives.embeddings import Neighbours, placed, retrieval
from finetune.objectives.tallies import LossAndShare, exact_dtype
from finetune.spec.objectives import Triplet


class Embedding:
    """Trains with the triplet loss max(0, d(anchor, positive) - d(anchor, negative) + margin).

    d is the Euclidean distance, as in Hermans et al. 2017 and in pytorch-metric-learning; FaceNet squares it.
    A batch's loss is a mean, and over what depends on the mining:

    - `all`: the triplets whose loss is above 0 ("batch all" of Hermans et al. 2017). Those that are far apart
      already would only dilute the mean.
    - `semihard`: the triplets whose negative is further away than the positive by less than the margin
      (Schroff et al. 2015).
    - `hard`: one triplet for each image, of its furthest positive and its nearest negative, those without
      loss among them ("batch hard" of Hermans et al. 2017).

    A batch with none of these has the loss 0 and changes nothing. The loss is computed in fp32 at least.

    Validation takes the mean over all triplets of the split, whatever the mining, so that its loss falls
    while the embedding gets better; a mean over active triplets need not.
    """

    def __init__(self, spec: Triplet, device: torch.device) -> None:
        self._spec, self._device = spec, device
        distance = LpDistance(normalize_embeddings=spec.normalize)
        self._miner: BatchHardMiner | TripletMarginMiner | None = None
        reducer = AvgNonZeroReducer()
        if spec.mining == "semihard":
            self._miner = TripletMarginMiner(spec.margin, "semihard", distance=distance)
        elif spec.mining == "hard":
            self._miner, reducer = BatchHardMiner(distance=distance), MeanReducer()
        self._loss = TripletMarginLoss(spec.margin, distance=distance, reducer=reducer)

    def loss(self, outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """See `Objective`. Datasets whose images have weights are refused before (`check_objective`)."""
        assert weights is None, "a triplet is of three images, each with a weight of its own"
        with torch.autocast(outputs.device.type, enabled=False):
            embeddings = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
            mined = None if self._miner is None else self._miner(embeddings, labels)
            loss: Tensor = self._loss(embeddings, labels, mined)
            return loss

    def weight(self, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """See `Objective`. Each batch counts by its images: its triplets are its own."""
        return total_weight(labels, weights)

    def tally(self) -> LossAndShare:
        """See `Objective`."""
        return LossAndShare(self._device, "active_triplets", self._active)

    def _active(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """How many of a batch's triplets violate the margin, and how many there are."""
        points = placed(outputs.to(exact_dtype(self._device)), self._spec.normalize)
        _, active, triplets = Neighbours.of(points, labels).violations(self._spec.margin)
        return active, triplets

    @torch.no_grad()
    def evaluate(self, forward: Forward, batches: LabelledBatches) -> Evaluation:
        """See `Objective`."""
        outputs, labels = zip(*((forward(inputs), labels) for inputs, labels in batches), strict=True)
        exact = torch.cat(outputs).to(exact_dtype(self._device))
        margin = self._spec.margin
        found = retrieval(placed(exact, self._spec.normalize), torch.cat(labels), margin)
        figures = {
            "loss": found.loss,
            "recall@1": found.recall_at_1,
            "recall@5": found.recall_at_5,
            "map@r": found.map_at_r,
            "active_triplets": found.active,
            "variance": found.variance,
        }
        sign = collapsed(found.spread, found.loss, found.active, margin)
        return Evaluation(figures, sign, EMBEDDING_ADVICE)
