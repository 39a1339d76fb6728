"""Times predictions beside the network alone: `THAW_BACKBONES=… python benchmarks/predict.py JOB IMAGE…`.

Starts no server. Downloads the job's best checkpoint, opens it in this process, and asks both in turn: the
network for prepared images, the server for files as they are. Takes eight images. Prints medians in
milliseconds; the predictor's figures are what it says in `seconds`. Give server and script the same
`OMP_NUM_THREADS`, or none.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import torch

from client.api import ThawClient
from finetune import backbones
from finetune.data.decoding import decode
from finetune.trained import open_model

BLOCKS, REPEATS = 10, 10
MANY = 8
SETTLE_SECONDS = 0.2  # the threads of a network wait busily for a moment when it is done


def measure(calls: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """The milliseconds of each call, the calls in turn block by block: a noisy minute is every one's."""
    times = defaultdict(list)
    for call in calls.values():
        call()
    for _ in range(BLOCKS):
        for name, call in calls.items():
            time.sleep(SETTLE_SECONDS)
            call()
            for _ in range(REPEATS):
                begun = time.perf_counter()
                call()
                times[name].append((time.perf_counter() - begun) * 1000)
    return times


def alone(model_path: Path, files: list[Path]) -> Iterator[tuple[str, Callable[[], object]]]:
    """The network in this process, on images that are decoded and cut already."""
    registered = tuple(path for path in os.environ.get("THAW_BACKBONES", "").split(",") if path)
    model = open_model(model_path, backbones.load(registered))
    images = torch.stack([model.preprocessing.centre(decode(file)) for file in files])
    for count in (1, MANY):
        yield f"network alone, {count}", partial(model.answers, images[:count])


def over_http(
    http: httpx.Client, job: str, files: list[Path], said: dict[str, list[float]]
) -> Iterator[tuple[str, Callable[[], object]]]:
    """The server, which is sent the files' bytes: as they are, and in a form. `said` gets its own figures."""

    def ask(name: str, **body: Any) -> None:
        response = http.post(f"/v1/jobs/{job}/predict", **body).raise_for_status()
        said[name].append(sum(response.json()["seconds"].values()) * 1000)

    parts = [("images", (file.name, file.read_bytes())) for file in files]
    bodies: dict[str, dict[str, Any]] = {
        "request, 1 as it is": {"content": files[0].read_bytes(), "headers": {"Content-Type": "image/jpeg"}},
        "request, 1 in a form": {"files": parts[:1]},
        f"request, {MANY} in a form": {"files": parts},
    }
    return ((name, partial(ask, name, **body)) for name, body in bodies.items())


def main() -> int:
    """Returns 1 where a warm request takes twice as long as its network alone, or longer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--url", default="http://127.0.0.1:8321")
    parser.add_argument("job")
    parser.add_argument("images", nargs="+", type=Path)
    arguments = parser.parse_args()
    files = arguments.images[:MANY]
    if len(files) < MANY:
        parser.error(f"give {MANY} images")
    said: dict[str, list[float]] = defaultdict(list)
    with (
        tempfile.TemporaryDirectory() as folder,
        ThawClient(arguments.url) as client,
        httpx.Client(base_url=arguments.url, trust_env=False, timeout=150) as http,
    ):
        path = client.download(arguments.job, "best", Path(folder))
        calls = dict([*alone(path, files), *over_http(http, arguments.job, files, said)])
        times = measure(calls)
    print(f"{torch.get_num_threads()} threads, {BLOCKS * REPEATS} of each, milliseconds")
    slow = False
    for name, own in times.items():
        median = statistics.median(own)
        line = f"{name:24} median {median:7.2f}  90th percentile {statistics.quantiles(own, n=10)[8]:7.2f}"
        if name in said:
            count = MANY if f", {MANY} " in name else 1
            ratio = median / statistics.median(times[f"network alone, {count}"])
            slow |= ratio >= 2
            line += f"  the predictor's {statistics.median(said[name]):7.2f}  {ratio:.2f} times the network"
        print(line)
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
