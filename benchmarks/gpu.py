"""The full stage on a GPU, from JPEG files, against ready tensors: `python -m benchmarks.gpu`.

ResNet-50 and ViT-B/16 at batch 128 and 256, in bf16. Takes the options of `benchmarks.run`; every training
image is there 16 times unless `--copies` says otherwise, so that an epoch is longer than its beginning.
"""

import sys

import torch

from benchmarks import run

COPIES = "16"


def main(given: list[str]) -> int:
    """Returns 2 where there is no GPU."""
    if not torch.cuda.is_available():
        print("there is no GPU here that PyTorch can use: nothing was measured")
        return 2
    return run.main(["--only", "gpu", "--copies", COPIES, *given])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
