"""Times training steps with and without a worker around them: `python benchmarks/progress.py`.

Heartbeats, progress, events and the pipe between the processes are what a worker adds. Trains the same job
in turn in a process that nobody listens to and in a worker's attempt, both forked from the same server, on
64 pixels: a network of few layers, and ResNet-18. Prints a step's median milliseconds over all epochs, and
the processor time of the worker itself as a share of the time in which it trained: what it may take away
from training where no core is free.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONPATH"] = str(ROOT)  # for the fork server

from app.settings import Settings  # noqa: E402  # found by the lines above
from app.store import jobs  # noqa: E402
from app.store.database import Database  # noqa: E402
from app.store.epochs import list_epochs  # noqa: E402
from app.store.migrate import migrate  # noqa: E402
from app.store.states import ENDED, Status  # noqa: E402
from benchmarks.start import draw  # noqa: E402
from finetune.recipes import resolve  # noqa: E402
from finetune.spec.job import JobSpec  # noqa: E402
from worker.engine import LocalEngine  # noqa: E402
from worker.supervisor import Supervisor  # noqa: E402

BATCH, IMAGES = 8, 256
BACKBONES = ("benchmarks.timed_network:few_layers",)
EPOCHS = {"few_layers": 60, "resnet18": 2}
ROUNDS = 3


class Bench:
    """A home with a database, a fork server and a dataset."""

    def __init__(self, root: Path) -> None:
        self.settings = Settings(
            home_dir=root / "home", data_dir=root / "data", backbones=BACKBONES, device="cpu", data_workers=0
        )
        self.root = root
        self.settings.home_dir.mkdir()
        draw(self.settings.data_dir / "noise", train=IMAGES // 2, val=8)
        migrate(self.settings.database_url)
        self.db = Database(self.settings.database_url)
        self.engine = LocalEngine()
        self.engine.warm_up(BACKBONES)

    def spec(self, backbone: str) -> dict[str, Any]:
        """A job's resolved spec."""
        body = {
            "dataset": {"path": "noise", "on_problem": "skip"},
            "backbone": {"name": backbone, "weights": None},
            "recipe": {"name": "joint", "epochs": EPOCHS[backbone]},
            "image_size": 64,
            "batch_size": BATCH,
        }
        return resolve(JobSpec.model_validate(body), list).model_dump(mode="json")

    def alone(self, backbone: str, number: int) -> list[float]:
        """Seconds of each epoch in a process that only trains."""
        context = multiprocessing.get_context("forkserver")
        ours, theirs = context.Pipe(duplex=False)
        folder = self.root / "alone" / str(number)
        arguments = (self.spec(backbone), folder, self.settings, theirs)
        process = context.Process(target=train_alone, args=arguments)
        process.start()
        theirs.close()
        seconds: list[float] = ours.recv()
        process.join()
        return seconds

    def watched(self, backbone: str) -> tuple[list[float], float]:
        """Seconds of each epoch in a worker's attempt, and of the worker's own processor time a second."""
        spec = self.spec(backbone)
        job, _ = jobs.create_job(self.db, spec=spec, resolved_spec=spec)
        supervisor = Supervisor(self.settings, self.db, self.engine)
        thread = threading.Thread(target=supervisor.work)
        thread.start()
        while (found := jobs.get_job(self.db, job.id)) and found.status not in ENDED:
            time.sleep(0.2)
        assert found is not None
        assert thread.ident is not None
        if found.status is not Status.SUCCEEDED:
            raise SystemExit(f"the job {found.status}: {found.error}")
        assert found.finished_at is not None
        assert found.started_at is not None
        own = time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
        supervisor.stop()
        thread.join()
        epochs = [epoch.record["seconds"]["train"] for epoch in list_epochs(self.db, job.id)]
        return epochs, own / (found.finished_at - found.started_at)


def train_alone(spec: dict[str, Any], folder: Path, settings: Settings, answer: Connection) -> None:
    """Trains as an attempt does, and says nothing until the end."""
    from finetune import backbones
    from finetune.events import EpochEnded
    from finetune.heap import keep_freed_memory
    from finetune.process import use_cores
    from finetune.training import train

    keep_freed_memory()
    use_cores()
    events = train(
        spec,
        folder,
        data_dir=settings.data_dir,
        registry=backbones.load(BACKBONES),
        device="cpu",
        cache_dir=settings.cache_dir,
        checks_dir=settings.checks_dir,
    )
    answer.send([event.record.seconds["train"] for event in events if isinstance(event, EpochEnded)])


def main() -> int:
    """Runs everything once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for backbone in EPOCHS:
            alone, watched, shares = list[float](), list[float](), list[float]()
            bench.alone(backbone, -1)  # fills the cache
            for number in range(rounds):
                alone += bench.alone(backbone, number)
                seconds, share = bench.watched(backbone)
                watched += seconds
                shares.append(share)
            steps = IMAGES / BATCH
            print(f"{backbone}, {rounds} times {EPOCHS[backbone]} epochs of {steps:g} steps")
            for name, times in (("alone", alone), ("in a worker's attempt", watched)):
                took = sorted(1000 * one / steps for one in times)
                print(f"  {name:22} a step: median {statistics.median(took):.3f} ms, least {took[0]:.3f} ms")
            print(f"  the worker's own processor time: {100 * statistics.median(shares):.2f} % of a core")
        bench.db.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main())
