"""The rows of the tables, as data: which process a row is, and with what."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

REFERENCE = "tutorial"
LOOP, PEER, LIMIT, EIGHT, ACCURACY, GPU = "loops", "peers", "limits", "eight", "accuracy", "gpu"

KEEPING = {  # glibc: no mmap for large blocks, and what is freed stays with the process
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
}


@dataclass(frozen=True)
class Row:
    """A row: `module` is run with `options`. `work` changes fields of the work.

    `searched`: its loader's number of processes is searched for first. `gives`: rows of the same process.
    """

    name: str
    title: str
    part: str
    module: str
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    work: Mapping[str, Any] = field(default_factory=dict)
    searched: bool = False
    gives: tuple[str, ...] = ()

    @property
    def of_peers(self) -> bool:
        """Whether it runs in the peers' environment."""
        return self.module.startswith("benchmarks.peers.")


Patch = dict[str, Any]
OFF: Patch = {
    "precision": "fp32",
    "compile": "off",
    "fold_batch_norm": False,
    "preprocessing": {"stored": "original"},
}
FRESH: Patch = {"features_once": False, "augmentation": "fresh"}
ONCE: Patch = {"features_once": True}


def thaw(name: str, title: str, spec: Patch | None = None, head: Patch | None = None, **options: Any) -> Row:
    """Thaw as a library with nothing, and with what is said on top of it."""
    environment = options.pop("environment", {})
    given = {"spec": {**OFF, **(spec or {})}, "head": head or FRESH, **options}
    return Row(name, f"Thaw, {title}", LOOP, "benchmarks.library", given, environment)


def service(name: str, title: str, part: str = LOOP, **options: Any) -> Row:
    """Thaw as a service with its defaults, and what is said on top of them."""
    work = options.pop("work", {})
    gives = (options["again"],) if "again" in options else ()
    return Row(
        name, f"Thaw as a service, {title}", part, "benchmarks.service", options, {}, work, gives=gives
    )


BY_HAND = {"channels_last": True, "bf16": True}
STORED: Patch = {"preprocessing": {"stored": "resized"}}
BF16: Patch = {"precision": "bf16"}
UNFOLDED: Patch = {**BF16, "fold_batch_norm": False}
FOLDED: Patch = {**BF16, "fold_batch_norm": True}
EVERYTHING: Mapping[str, Any] = {"cache": True}

LOOPS = (
    Row(REFERENCE, "tutorial loop", LOOP, "benchmarks.tutorial", searched=True),
    Row(
        "tutorial-by-hand",
        "tutorial loop, with channels last and bf16 by hand",
        LOOP,
        "benchmarks.tutorial",
        BY_HAND,
        searched=True,
    ),
    thaw("thaw-nothing", "nothing on"),
    thaw("thaw-features", "features once alone (plain views)", head=ONCE),
    thaw(
        "thaw-views",
        "features of 3 drawn views alone",
        head={**ONCE, "augmentation": "fresh", "feature_views": 3},
    ),
    thaw("thaw-stored", "decoded once alone", STORED, cache=True),
    thaw("thaw-bf16", "bf16 alone", BF16),
    thaw("thaw-compile", "compile alone", {"compile": "on"}),
    thaw("thaw-allocator", "an allocator that keeps memory alone", environment=KEEPING),
    thaw("thaw-workers", "one data worker alone", workers=1),
    thaw("thaw-unfolded", "features once and bf16", UNFOLDED, ONCE),
    thaw("thaw-folded", "features once, bf16 and BatchNorm folded", FOLDED, ONCE),
    Row("thaw-all", "Thaw, all on", LOOP, "benchmarks.library", EVERYTHING, KEEPING),
    Row(
        "thaw-all-fp32",
        "Thaw, all on but bf16",
        LOOP,
        "benchmarks.library",
        {**EVERYTHING, "spec": {"precision": "fp32"}},
        KEEPING,
    ),
    service("service", "nothing cached", again="service-again"),
    service("service-fp32", "nothing cached, fp32", again="service-fp32-again", spec={"precision": "fp32"}),
    service("service-views", "3 drawn views", head={"augmentation": "fresh", "feature_views": 3}),
)
GIVEN = {
    "service-again": "Thaw as a service, the same job again",
    "service-fp32-again": "Thaw as a service, the same job again, fp32",
}
HEAD_ONLY = {"full_epochs": 0}
EIGHTS = (
    Row(
        "tutorial-head",
        "tutorial loop, head stage alone",
        EIGHT,
        "benchmarks.tutorial",
        work=HEAD_ONLY,
        searched=True,
    ),
    service("eight-heads", "eight jobs, head stage alone", EIGHT, eight=True, work=HEAD_ONLY),
    service("eight-whole", "eight jobs, both stages", EIGHT, eight=True),
)
STAGE_ON_READY = "limits-stage"
LIMITS = (
    Row("limits", "limits", LIMIT, "benchmarks.limits"),
    Row(
        "limits-keeping",
        "limits, an allocator that keeps memory",
        LIMIT,
        "benchmarks.limits",
        {"parts": ["step", "inference"]},
        KEEPING,
    ),
    Row(
        STAGE_ON_READY,
        "the full stage on ready tensors",
        LIMIT,
        "benchmarks.limits",
        {"stage": True},
        KEEPING,
    ),
)


def peer(name: str, title: str, **options: Any) -> Row:
    """One of the peers, in the peers' environment."""
    return Row(name, title, PEER, f"benchmarks.peers.{name.partition('-')[0]}", options, searched=True)


LAST = {"channels_last": True}
PEERS = (
    peer("timm", "timm"),
    peer("timm-channels-last", "timm, channels last", **LAST),
    peer("timm-bf16", "timm, channels last and its bf16 flag", **BY_HAND),
    peer("timm-gradients-off", "timm, channels last, bf16, frozen by hand", **BY_HAND, gradients_off=True),
    peer("torchvision", "torchvision's reference loop"),
    peer("torchvision-channels-last", "torchvision's reference loop, channels last", **LAST),
    peer("fastai", "fastai"),
    peer("fastai-channels-last", "fastai, channels last", **LAST),
    peer("lightning", "Lightning"),
    peer("lightning-bf16", "Lightning, channels last and bf16-mixed", **BY_HAND),
    peer("transformers", "Hugging Face Trainer"),
    peer("transformers-bf16", "Hugging Face Trainer, channels last and its bf16 flag", **BY_HAND),
)
BESIDE_PEERS = (REFERENCE, "service", "service-fp32", "thaw-all", "thaw-all-fp32")
JUDGED = (
    REFERENCE,
    "thaw-nothing",
    "thaw-bf16",
    "thaw-stored",
    "thaw-views",
    "thaw-features",
    "thaw-folded",
    "thaw-all",
)


def named(rows: Sequence[Row]) -> dict[str, Row]:
    """Rows by name."""
    return {row.name: row for row in rows}


def accuracy_rows() -> tuple[Row, ...]:
    """The loops whose accuracy is compared over seeds, on real weights."""
    loops = named(LOOPS)
    return tuple(
        Row(
            f"accuracy-{name}",
            row.title,
            ACCURACY,
            row.module,
            {"workers": 1, **row.options},
            row.environment,
        )
        for name, row in ((name, loops[name]) for name in JUDGED)
    )


ON_GPU = [(network, batch) for network in ("resnet50", "vit_b_16") for batch in (128, 256)]
GPU_STEP = "step bf16, channels last"


def gpu_rows() -> Iterator[Row]:
    """Steps on tensors that lie on the GPU, and Thaw from JPEG files, for each network and batch size."""
    for network, batch in ON_GPU:
        work = {"network": network, "batch_size": batch, "head_epochs": 0, "full_epochs": 3}
        name, title = f"{network}-{batch}", f"{network}, batch {batch}"
        ready = {"device": "cuda", "parts": [GPU_STEP]}
        files = {"device": "cuda", "cache": True, "workers": "cores"}
        yield Row(f"gpu-ready-{name}", f"{title}, ready tensors", GPU, "benchmarks.limits", ready, {}, work)
        yield Row(
            f"gpu-files-{name}", f"{title}, Thaw from files", GPU, "benchmarks.library", files, {}, work
        )


ROWS = (*LOOPS, *EIGHTS, *LIMITS, *PEERS, *accuracy_rows(), *gpu_rows())
TITLES = {row.name: row.title for row in ROWS} | GIVEN
