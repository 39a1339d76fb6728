"""A network of three convolution blocks, small enough for a demonstration on two cores.

Registered with `THAW_BACKBONES=examples.small_cnn:backbone`.
"""

from torch import Tensor, nn

from finetune.backbones import backbone as register
from finetune.data.preprocessing import Preprocessing

SIZE = 32


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


class SmallCNN(nn.Module):
    """Convolution blocks, pooling to 2 × 2, a linear head."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(_block(3, 32), _block(32, 64), _block(64, 128))
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(128 * 2 * 2, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) → logits (N, num_classes)."""
        logits: Tensor = self.head(self.pool(self.features(images)).flatten(1))
        return logits


@register(
    name="small_cnn",
    head="head",
    preprocessing=Preprocessing(resize=SIZE, crop=SIZE, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    containers=("features",),
)
def backbone(num_classes: int) -> nn.Module:
    """Three convolution blocks, 32 × 32 pixels."""
    return SmallCNN(num_classes)
