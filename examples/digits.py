"""The demonstration: fine-tuning against starting from nothing, on real digits, through the service.

Writes scikit-learn's digits out as images, starts Thaw, trains a small network on the digits 0 to 4, then
fine-tunes its checkpoint on ten images each of 5 to 9, and trains on the same images from random weights with
the same recipe. Run it with `make demo`.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

from client.api import ThawClient
from client.errors import ThawError
from client.models import Job
from client.watch import watch

HERE = Path("demo").absolute()
BASE, NEW = "digits-0-4", "digits-5-9"
FEW = 10  # training images of each new digit
SIZE = 32
START_SECONDS = 60.0

LOADING = """\
    from examples.small_cnn import backbone
    from safetensors.torch import load_file

    model = backbone.build(5)
    model.load_state_dict(load_file("{file}"))

A torchvision backbone needs nothing of ours, not even this: see docs/loading.md.
"""

console = Console()


def write_images(root: Path) -> None:
    """Writes the digits as `root/DATASET/{train,val}/DIGIT/*.png`."""
    digits = load_digits()
    shuffled = np.random.RandomState(0).permutation(len(digits.target))
    for digit in range(10):
        chosen = [i for i in shuffled if digits.target[i] == digit]
        held_out = 40 if digit < 5 else len(chosen) - FEW
        for place, index in enumerate(chosen):
            split = "val" if place < held_out else "train"
            folder = root / (BASE if digit < 5 else NEW) / split / str(digit)
            folder.mkdir(parents=True, exist_ok=True)
            pixels = (digits.images[index] * 255 / 16).round().astype("uint8")
            Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(
                folder / f"{index}.png"
            )


@contextmanager
def thaw_running() -> Iterator[ThawClient]:
    """Starts `thaw up` on a free port, with all its files below `demo/`; ends it as Ctrl-C does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("THAW_")},
        "THAW_HOME_DIR": str(HERE / "home"),
        "THAW_DATA_DIR": str(HERE / "data"),
        "THAW_PORT": str(port),
        "THAW_BACKBONES": "examples.small_cnn:backbone",
    }
    with (HERE / "thaw.log").open("w") as log:
        command = [str(Path(sys.executable).with_name("thaw")), "up"]
        thaw = subprocess.Popen(command, env=environment, stderr=log, start_new_session=True)
        try:
            with ThawClient(f"http://127.0.0.1:{port}") as client:
                wait_for(client, thaw)
                yield client
        finally:
            thaw.send_signal(signal.SIGINT)
            thaw.wait()


def wait_for(client: ThawClient, thaw: "subprocess.Popen[bytes]") -> None:
    """Waits until the server answers."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            client.jobs(limit=1)
        except ThawError as error:
            if thaw.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"Thaw did not start ({error}); see {HERE / 'thaw.log'}")
            time.sleep(0.2)
        else:
            return


def run(client: ThawClient, title: str, spec: dict[str, Any]) -> Job:
    """Submits a job and follows it to its end."""
    console.rule(title)
    job = client.submit({"name": title, **spec}).id
    ended = watch(client, job, console)
    if ended.status != "succeeded":
        sys.exit(f"{job} {ended.status}: {ended.status_reason}")
    return ended


def accuracy(job: Job) -> float:
    """The validation accuracy of a job's best epoch."""
    assert job.best is not None
    assert job.best.value is not None
    return job.best.value


def main() -> None:
    """Runs the three jobs and shows what came of them."""
    shutil.rmtree(HERE, ignore_errors=True)
    write_images(HERE / "data")
    network = {"name": "small_cnn", "weights": None}
    pretraining = {
        "dataset": {"path": BASE},
        "backbone": network,
        "stages": [{"name": "all", "epochs": 8, "lr": {"schedule": {"name": "one_cycle", "max_lr": 0.05}}}],
    }
    recipe = {"dataset": {"path": NEW}, "recipe": {"name": "two_stage"}}
    begun = time.monotonic()
    with thaw_running() as client:
        base = run(client, "digits 0 to 4, from random weights", pretraining)
        weights = {"job": base.id, "checkpoint": "best"}
        tuned = run(
            client, "digits 5 to 9, fine-tuned", {**recipe, "backbone": {**network, "weights": weights}}
        )
        scratch = run(client, "digits 5 to 9, from random weights", {**recipe, "backbone": network})
        file = client.download(tuned.id, "best", HERE / "best.safetensors")
    table = Table(title=f"Validation accuracy of the best epoch, {FEW} training images of each of 5 to 9")
    for column in ("starts from", "recipe", "accuracy"):
        table.add_column(column)
    table.add_row("the network trained on 0 to 4", "two_stage", f"{accuracy(tuned):.3f}")
    table.add_row("random weights", "two_stage", f"{accuracy(scratch):.3f}")
    console.print(table)
    shown = os.path.relpath(file)
    console.print(
        f"{time.monotonic() - begun:.0f} s. The fine-tuned model is {shown}; these lines load it:\n"
    )
    console.print(LOADING.format(file=shown), highlight=False)
    if accuracy(tuned) <= accuracy(scratch):
        sys.exit("fine-tuning did not win, which it should have: see demo/thaw.log")


if __name__ == "__main__":
    main()
