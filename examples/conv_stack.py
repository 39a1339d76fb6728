"""A stack of eight convolution blocks: the network of many a tutorial, as a backbone of one's own.

Registered with `THAW_BACKBONES=examples.conv_stack:backbone`; examples/conv_stack.yaml trains it with a
freeze boundary in its middle.
"""

from torch import Tensor, nn

from finetune.backbones import backbone as register
from finetune.data.preprocessing import Preprocessing

SIZE = 64
WIDTHS = (16, 16, 32, 32, 64, 64, 128, 128)  # of the blocks; every second one halves height and width


def _block(channels_in: int, channels_out: int, *, pools: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
        nn.MaxPool2d(2) if pools else nn.Identity(),
    )


class ConvStack(nn.Module):
    """Convolution blocks, the mean over space, a linear head."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        pairs = zip((3, *WIDTHS), WIDTHS, strict=False)  # the last width is the head's
        self.blocks = nn.Sequential(*[_block(i, o, pools=n % 2 == 1) for n, (i, o) in enumerate(pairs)])
        self.head = nn.Linear(WIDTHS[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) → logits (N, num_classes)."""
        logits: Tensor = self.head(self.blocks(images).mean((2, 3)))
        return logits


@register(
    name="conv_stack",
    head="head",
    preprocessing=Preprocessing(resize=SIZE, crop=SIZE, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    containers=("blocks",),
)
def backbone(num_classes: int) -> nn.Module:
    """Eight convolution blocks, 64 × 64 pixels."""
    return ConvStack(num_classes)
