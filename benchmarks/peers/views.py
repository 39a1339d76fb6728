"""The work's crops and flips with torchvision's transforms, for peers that leave the data to their user."""

from torchvision import transforms

from benchmarks.work import IMAGENET, Work


def views(work: Work, split: str) -> transforms.Compose:
    """From a Pillow image to what the network takes."""
    drawn = [
        transforms.RandomResizedCrop(work.image_size, scale=work.crop_scale),
        transforms.RandomHorizontalFlip(),
    ]
    centre = [transforms.Resize(work.resized), transforms.CenterCrop(work.image_size)]
    chosen = drawn if split == "train" else centre
    return transforms.Compose([*chosen, transforms.ToTensor(), transforms.Normalize(*IMAGENET)])
