"""MobileNet v1 (Howard et al. 2017) as a backbone: `THAW_BACKBONES=examples.mobilenet_v1:backbone`.

Made for weights converted from Keras: stride-2 convolutions pad at the right and at the bottom only,
BatchNorm has an eps of 1e-3, images are in [-1, 1]. Stem and the first 12 of 13 blocks; 1,024 features.
"""

from torch import Tensor, nn

from finetune.backbones import backbone as register
from finetune.data.preprocessing import Preprocessing

BLOCKS = (  # in, out, stride
    (32, 64, 1),
    (64, 128, 2),
    (128, 128, 1),
    (128, 256, 2),
    (256, 256, 1),
    (256, 512, 2),
    *[(512, 512, 1)] * 5,
    (512, 1024, 2),
)


class SamePadConv(nn.Conv2d):
    """A 3×3 convolution that pads as Keras does: with stride 2, one pixel at the right and bottom only."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, groups: int = 1) -> None:
        super().__init__(
            channels_in, channels_out, 3, stride, 1 if stride == 1 else 0, groups=groups, bias=False
        )

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C', H / stride, W / stride)."""
        if self.stride[0] == 2:
            input = nn.functional.pad(input, (0, 1, 0, 1))
        return super().forward(input)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def _block(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        SamePadConv(channels_in, channels_in, stride, groups=channels_in),
        _norm(channels_in),
        nn.ReLU6(inplace=True),
        nn.Conv2d(channels_in, channels_out, 1, bias=False),
        _norm(channels_out),
        nn.ReLU6(inplace=True),
    )


class MobileNetV1(nn.Module):
    """Stem, depthwise-separable blocks, mean over space, a linear head."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(SamePadConv(3, 32, 2), _norm(32), nn.ReLU6(inplace=True))
        self.blocks = nn.Sequential(*[_block(*row) for row in BLOCKS])
        self.head = nn.Linear(1024, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [-1, 1] → logits (N, num_classes)."""
        features = self.blocks(self.stem(images)).mean((2, 3))
        logits: Tensor = self.head(features)
        return logits


@register(
    name="mobilenet_v1",
    head="head",
    preprocessing=Preprocessing(resize=256, crop=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    containers=("blocks",),
)
def backbone(num_classes: int) -> nn.Module:
    """MobileNet v1 1.0/224 without its last block."""
    return MobileNetV1(num_classes)
