"""A Thaw of one's own for tests: folders, images, backbones, and processes that are ended for sure."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw

from app.store.migrate import migrate
from tests.databases import postgresql, url
from tests.promises import (
    add_option,
    pytest_configure,
    pytest_runtest_makereport,
    pytest_sessionfinish,
    pytest_terminal_summary,
    tried,
)

__all__ = [  # for all tests
    "postgresql",
    "pytest_configure",
    "pytest_runtest_makereport",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "tried",
    "url",
]

Draw = Callable[..., Path]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--long`: the long profile of tests that try at random. `--promises FILE`: see `tests.promises`."""
    add_option(parser)
    parser.addoption("--long", action="store_true", help="try at random for hours, not for minutes")


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether the long profile was asked for."""
    return bool(request.config.getoption("--long"))


# What a shell starts in the background ignores Ctrl-C, and so would the processes that tests send it to.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Written into the folder that server and worker start in, which is where operators' backbones are looked for.
TINY_NET = """
import os
import time

from torch import nn

from finetune.backbones import backbone as register
from finetune.data.preprocessing import Preprocessing

HALF = (0.5, 0.5, 0.5)
SMALL = Preprocessing(resize=16, crop=16, mean=HALF, std=HALF)


def block(channels_in, channels_out):
    convolution = nn.Conv2d(channels_in, channels_out, 3, 2, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU())


class TinyNet(nn.Module):
    def __init__(self, classes, width=12):
        super().__init__()
        self.stem = block(3, width)
        self.body = block(width, width)
        self.head = nn.Linear(width, classes)
        self.steps = 0

    def forward(self, images):
        self.step(images)
        return self.head(self.body(self.stem(images)).mean((2, 3)))

    def step(self, images):
        pass


class SlowNet(TinyNet):
    def step(self, images):
        if self.training:
            time.sleep(0.04)


class FaultyNet(TinyNet):
    def step(self, images):
        self.steps += self.training
        if self.steps == 4:
            raise RuntimeError(f"cannot go on with {os.path.abspath(__file__)} at step 4")


@register(name="tiny_net", head="head", preprocessing=SMALL)
def backbone(classes):
    return TinyNet(classes)


@register(name="tiny_wide", head="head", preprocessing=SMALL)
def wide(classes):
    return TinyNet(classes, 16)


@register(name="tiny_slow", head="head", preprocessing=SMALL)
def slow(classes):
    return SlowNet(classes)


@register(name="tiny_faulty", head="head", preprocessing=SMALL)
def faulty(classes):
    return FaultyNet(classes)


@register(name="tiny_unbuildable", head="head", preprocessing=SMALL)
def unbuildable(classes):
    if os.environ.get("TINY_CANNOT_BE_BUILT"):
        raise RuntimeError("the factory has no bricks")
    return TinyNet(classes)
"""
TINY_NAMES = ("backbone", "wide", "slow", "faulty", "unbuildable")
BACKBONES = ",".join([*(f"tiny_net:{name}" for name in TINY_NAMES), "no_such_module:backbone"])


class House:
    """A Thaw home with its data, its server and its workers."""

    def __init__(self, root: Path, **settings: object) -> None:
        self.root, self.data, self.weights = root, root / "data", root / "weights"
        self.home = root / "home"
        for folder in (self.data, self.weights, self.home):
            folder.mkdir(parents=True)
        (root / "tiny_net.py").write_text(TINY_NET)
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.database_url = f"sqlite:///{self.home / 'thaw.db'}"
        self.artifacts = self.home / "artifacts"
        self.settings = {
            "THAW_HOME_DIR": self.home,
            "THAW_DATA_DIR": self.data,
            "THAW_WEIGHTS_DIR": self.weights,
            "THAW_PORT": self.port,
            "THAW_BACKBONES": BACKBONES,
            "THAW_DEVICE": "cpu",
            "THAW_DATA_WORKERS": 0,
            "THAW_POLL_SECONDS": 0.05,
            "THAW_REQUESTS_PER_SECOND": 0,  # tests ask as fast as they can
            **{f"THAW_{name.upper()}": value for name, value in settings.items()},
        }
        self._processes: list[subprocess.Popen[bytes]] = []

    def environment(self, **more: object) -> dict[str, str]:
        """What the processes of this house see."""
        bare = {name: value for name, value in os.environ.items() if not name.startswith("THAW_")}
        ours = {"OMP_NUM_THREADS": 1, "THAW_URL": self.url, **self.settings, **more}
        return bare | {name: str(value) for name, value in ours.items()}

    def migrate(self) -> None:
        migrate(self.database_url)

    def serve(self) -> subprocess.Popen[bytes]:
        """Starts the server and waits until it is ready."""
        server = self.start("server", sys.executable, "-m", "app", "serve")
        _until(lambda: _status(f"{self.url}/readyz", server) == 200, 30, "the server is ready")
        return server

    def work(self, **environment: object) -> subprocess.Popen[bytes]:
        """Starts a worker."""
        return self.start("worker", sys.executable, "-m", "worker", **environment)

    def start(self, name: str, *command: object, **environment: object) -> subprocess.Popen[bytes]:
        """Starts a process that lives no longer than the house; what it prints goes to NAME.log."""
        with (self.root / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=self.root,
                env=self.environment(**environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def run(self, *command: object, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
        """Runs a command of this house to its end."""
        return subprocess.run(
            [str(part) for part in command],
            cwd=self.root,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def log(self, name: str) -> str:
        return (self.root / f"{name}.log").read_text()

    def close(self) -> None:
        """Ends everything, with whatever the processes have left behind."""
        for process in reversed(self._processes):
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _free_port() -> int:
    """One that nobody is given by chance: the system gives those above to whoever connects."""
    while True:
        port = _DICE.randrange(12_000, 32_000)
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


_DICE = random.SystemRandom()  # two runs of tests at once do not choose alike


def _status(url: str, server: "subprocess.Popen[bytes]") -> int:
    assert server.poll() is None, f"the server ended with exit code {server.returncode}"
    try:
        return httpx.get(url, trust_env=False).status_code
    except httpx.TransportError:
        return 0


def _until(condition: Callable[[], Any], seconds: float = 30, what: str = "it happens") -> Any:
    """Waits until a condition gives something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain until {what}"
        time.sleep(0.02)


def _draw_shapes(
    folder: Path,
    classes: tuple[str, ...] = ("circle", "square", "triangle"),
    train: int = 12,
    val: int = 6,
    size: int = 24,
    noise: int = 60,
    splits: bool = True,
) -> Path:
    """Coloured shapes as an image folder, the same ones every time."""
    for label, name in enumerate(classes):
        for split, count in (("train", train), ("val", val)):
            target = folder / split / name if splits else folder / name
            target.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                _draw_shape(target / f"{split}-{number:03}.png", label, size, noise)
    return folder


def _draw_shape(path: Path, label: int, size: int, noise: int) -> None:
    dice = random.Random(f"{path.parent.name}/{path.name}")
    image = Image.new("RGB", (size, size))
    pixels = [tuple(dice.randrange(noise + 1) for _ in range(3)) for _ in range(size * size)]
    image.putdata(pixels)
    draw = ImageDraw.Draw(image)
    colour = [dice.randrange(40, 140) for _ in range(3)]
    colour[label % 3] = dice.randrange(130, 256)
    left, top = dice.randrange(size // 3), dice.randrange(size // 3)
    right, bottom = left + size // 2, top + size // 2
    fill = (colour[0], colour[1], colour[2])
    if label % 3 == 0:
        draw.ellipse((left, top, right, bottom), fill=fill)
    elif label % 3 == 1:
        draw.rectangle((left, top, right, bottom), fill=fill)
    else:
        draw.polygon([(left, bottom), (right, bottom), ((left + right) // 2, top)], fill=fill)
    image.save(path)


def _photograph(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Soft patches of colour with some grain: to a check it is a photograph, another one for each seed."""
    dice = np.random.RandomState(seed)
    patches = Image.fromarray(dice.randint(0, 256, (9, 12, 3)).astype("uint8"))
    soft = np.asarray(patches.resize(size, Image.Resampling.BICUBIC), dtype="int16")
    return Image.fromarray((soft + dice.randint(-12, 13, soft.shape)).clip(0, 255).astype("uint8"))


def _draw_photographs(folder: Path, train: int = 8, val: int = 4) -> Path:
    """Photographs of ants and bees, in splits, or without them where `val` is 0."""
    seed = 0
    for split, count in (("train", train), ("val", val)) if val else (("", train),):
        for name in ("ants", "bees"):
            target = folder / split / name
            target.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                seed += 1
                _photograph(seed).save(target / f"{number:03}.jpg", quality=92)
    return folder


def _alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent to look does not."""
    try:
        return _stat(pid)[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            if entry.name.isdigit() and int(_stat(int(entry.name))[1]) == pid:
                found.append(int(entry.name))
    return found


def _descendants(pid: int) -> list[int]:
    children = _children(pid)
    return [*children, *(one for child in children for one in _descendants(child))]


def _has_torch(pid: int) -> bool:
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def _attempts(supervisor: int) -> list[int]:
    """The processes that train: children of the worker's fork server."""
    return [grandchild for child in _children(supervisor) for grandchild in _children(child)]


@pytest.fixture(scope="session")
def until() -> Callable[..., Any]:
    """`until(condition, seconds, what)` waits with a deadline and returns what the condition gave."""
    return _until


@pytest.fixture(scope="session")
def photograph() -> Callable[..., Image.Image]:
    """`photograph(seed, size)` makes a picture that a check takes for a photograph."""
    return _photograph


@pytest.fixture(scope="session")
def draw_photographs() -> Draw:
    """Makes an image folder of photographs of ants and bees."""
    return _draw_photographs


@pytest.fixture(scope="session")
def draw_shapes() -> Draw:
    """Makes an image folder of coloured shapes that a tiny network learns."""
    return _draw_shapes


@pytest.fixture(scope="session")
def proc() -> SimpleNamespace:
    """Looks at processes by way of /proc."""
    return SimpleNamespace(alive=_alive, descendants=_descendants, has_torch=_has_torch, attempts=_attempts)


@pytest.fixture(scope="session")
def make_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., House]]:
    """Makes homes; a keyword is a setting, `lease_seconds=2`. All their processes end with the tests."""
    houses = []

    def make(**settings: object) -> House:
        house = House(tmp_path_factory.mktemp("house"), **settings)
        houses.append(house)
        house.migrate()
        return house

    yield make
    for house in houses:
        house.close()
