"""What the hardware gives: steps on tensors that lie ready, inference, decoding, cropping, a head stage.

A process of the benchmarks. All are measured in turn, round by round, so that a noisy minute is every one's;
each rate is the median of its rounds, in images per second. Options: `parts`,
which of them (all unless said), `device`, and `stage`: nothing but the full stage on ready tensors, in a
process that has computed nothing before.
"""

import statistics
import textwrap
import time
import warnings
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim import SGD
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F  # noqa: N812  # the field's usual name

from benchmarks.networks import Network, build
from benchmarks.records import Course, Record
from benchmarks.work import Task, Work
from finetune.device import choose
from finetune.folding import folded

ROUNDS, LEAST_SECONDS = 5, 1.0
FILES = 64
LONGEST = 100  # characters of a reason
Piece = Callable[[], int]  # does some of it, and says how many images that was


def step(work: Work, device: str, channels_last: bool, bf16: bool) -> Piece:
    """Training steps of the whole network on one batch that lies ready."""
    network, images = _ready(work, device, channels_last)
    labels = torch.arange(work.batch_size, device=device) % 2
    optimizer = SGD(network.model.parameters(), lr=1e-4, momentum=work.momentum)

    def piece() -> int:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            loss = nn.functional.cross_entropy(network.model(images), labels)
        torch.autograd.backward(loss)
        optimizer.step()
        _wait(device)
        return len(images)

    return piece


def inference(work: Work, device: str, channels_last: bool, bf16: bool, fold: bool = False) -> Piece:
    """The network in eval mode on one batch that lies ready."""
    network, images = _ready(work, device, channels_last)
    model = network.model.eval()
    if fold:
        model = folded(model, images)

    @torch.no_grad()
    def piece() -> int:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            model(images)
        _wait(device)
        return len(images)

    return piece


def decoding(work: Work, by: str) -> Piece:
    """JPEG files that are in memory, to RGB, one core."""
    files = [path.read_bytes() for path in sorted((Path(work.data) / "train").rglob("*.jpg"))[:FILES]]
    decode = {"Pillow": _pillow, "torchvision.io": _torchvision_io}[by]

    def piece() -> int:
        for file in files:
            decode(file)
        return len(files)

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a decoder that will go is no limit to build on
        decode(files[0])
    return piece


def cropping(work: Work) -> Piece:
    """Random crops and flips of decoded uint8 images."""
    files = sorted(Path(work.data).rglob("*.jpg"))[:FILES]
    whole = [F.pil_to_tensor(_pillow(file.read_bytes())) for file in files]
    images = [F.resize(image, [work.resized], antialias=True) for image in whole]
    view = v2.Compose(
        [v2.RandomResizedCrop(work.image_size, scale=work.crop_scale), v2.RandomHorizontalFlip()]
    )

    def piece() -> int:
        for image in images:
            view(image)
        return len(images)

    return piece


def head_stage(work: Work) -> float:
    """Seconds of a head stage whose features are computed once, from tensors that lie ready."""
    network, images = _ready(work, "cpu", channels_last=True)
    compute = choose("cpu", "auto")  # as in Thaw's rows
    head = network.model.get_submodule(network.head)
    network.model.set_submodule(network.head, nn.Identity())
    network.model.eval()
    optimizer = SGD(head.parameters(), lr=work.head_rate, momentum=work.momentum)
    labels = torch.arange(work.batch_size) % 2
    begun = time.monotonic()
    with torch.no_grad(), compute.autocast():
        for _ in range(-(-(work.trained + work.validated) // work.batch_size)):
            features = network.model(images)
    features = features.float()
    for _ in range(work.head_epochs * -(-work.trained // work.batch_size)):
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(head(features), labels))
        optimizer.step()
    return time.monotonic() - begun


def full_stage(work: Work) -> float:
    """Seconds of the full stage, its validations too, on tensors that lie ready."""
    network, images = _ready(work, "cpu", channels_last=True)
    compute = choose("cpu", "auto")  # as in Thaw's rows
    optimizer = SGD(network.model.parameters(), lr=work.full_rate, momentum=work.momentum)
    labels = torch.arange(work.batch_size) % 2
    begun = time.monotonic()
    for _ in range(work.full_epochs):
        network.model.train()
        for size in _batches(work.trained, work.batch_size):
            optimizer.zero_grad(set_to_none=True)
            with compute.autocast():
                loss = nn.functional.cross_entropy(network.model(images[:size]), labels[:size])
            torch.autograd.backward(loss)
            optimizer.step()
        network.model.eval()
        with torch.no_grad(), compute.autocast():
            for size in _batches(work.validated, work.batch_size):
                network.model(images[:size])
    return time.monotonic() - begun


def _batches(images: int, size: int) -> list[int]:
    """The sizes of the batches of an epoch, a short one last."""
    whole, rest = divmod(images, size)
    return [size] * whole + [rest] * (rest > 0)


def pieces(work: Work, device: str) -> dict[str, Callable[[], Piece]]:
    """Everything that is measured, by name."""
    return {
        "step fp32, NCHW": partial(step, work, device, False, False),
        "step fp32, channels last": partial(step, work, device, True, False),
        "step bf16, channels last": partial(step, work, device, True, True),
        "inference fp32, NCHW": partial(inference, work, device, False, False),
        "inference fp32, channels last": partial(inference, work, device, True, False),
        "inference bf16, channels last": partial(inference, work, device, True, True),
        "inference bf16, channels last, folded": partial(inference, work, device, True, True, fold=True),
        "decoding, Pillow": partial(decoding, work, "Pillow"),
        "decoding, torchvision.io": partial(decoding, work, "torchvision.io"),
        "crop and flip from decoded": partial(cropping, work),
    }


def measure(task: Task, record: Record) -> None:
    """Measures all in turn, and writes medians down."""
    wanted, rounds = task.options.get("parts"), int(task.options.get("rounds", ROUNDS))
    made: dict[str, Piece] = {}
    for name, make in pieces(task.work, task.options.get("device", "cpu")).items():
        if wanted is None or any(name.startswith(start) for start in wanted):
            try:
                made[name] = make()
                made[name]()  # what is done once is done now
            except (Warning, ImportError) as reason:
                record.notes[name] = (
                    f"not measured: {textwrap.shorten(str(reason), LONGEST, placeholder=' …')}"
                )
                made.pop(name, None)
    times: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(rounds):
        for name, piece in made.items():
            images, begun = 0, time.monotonic()
            while (seconds := time.monotonic() - begun) < LEAST_SECONDS:
                images += piece()
            times[name].append(images / seconds)
    record.rates = {name: statistics.median(own) for name, own in times.items()}


def main() -> None:
    """Does the task and tells what it found."""
    task = Task.read()
    record = Record(task.row)
    course = Course(record)
    course.lap("imports")
    if task.options.get("stage"):
        record.seconds["full"] = full_stage(task.work)
        record.tell()
        return
    measure(task, record)
    if "parts" not in task.options:
        record.seconds["head stage from features"] = min(head_stage(task.work) for _ in range(2))
    record.tell()


def _ready(work: Work, device: str, channels_last: bool) -> tuple[Network, Tensor]:
    network = build(work, 2)
    images = torch.randn(work.batch_size, 3, work.image_size, work.image_size)
    network.model.to(device)
    images = images.to(device)
    if channels_last:
        network.model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    return network, images


def _wait(device: str) -> None:
    """Until the device has done what it was asked for."""
    if device == "cuda":
        torch.cuda.synchronize()


def _pillow(file: bytes) -> Image.Image:
    with Image.open(BytesIO(file)) as image:
        return image.convert("RGB")


def _torchvision_io(file: bytes) -> Tensor:
    from torchvision.io import ImageReadMode, decode_jpeg

    decoded: Tensor = decode_jpeg(torch.frombuffer(bytearray(file), dtype=torch.uint8), ImageReadMode.RGB)
    return decoded


if __name__ == "__main__":
    main()
