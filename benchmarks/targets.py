"""What Thaw means to reach, beside what was measured. A row is given where what it needs was measured."""

import statistics
from collections.abc import Iterator, Sequence

from benchmarks import rows
from benchmarks.ratios import CHECKED_HEAD, ratio, standard_error
from benchmarks.records import Record
from benchmarks.results import Results

FLAG, BY_HAND = "timm-bf16", "timm-gradients-off"
CHECKED = "head stage with the check and decoding before it"
BY = (  # what is measured, how many times as fast at least, the row, what it is compared with, the part
    ("head stage, nothing cached", 8.0, "service", rows.REFERENCE, "head"),
    ("head stage, nothing cached", 5.0, "service", FLAG, "head"),
    ("head stage, nothing cached", 5.0, "service", BY_HAND, "head"),
    (CHECKED, 8.0, "service", rows.REFERENCE, CHECKED_HEAD),
    (CHECKED, 5.0, "service", FLAG, CHECKED_HEAD),
    ("head stage, caches warm", 50.0, "service-again", rows.REFERENCE, "head"),
    ("full stage", 2.7, "service", rows.REFERENCE, "full"),
    ("full stage", 1.3, "service", FLAG, "full"),
    ("full stage", 1.3, "service", BY_HAND, "full"),
    ("submission to checkpoint, against the whole process", 4.0, "service", rows.REFERENCE, "total"),
    ("submission to checkpoint, against the whole process", 2.3, "service", FLAG, "total"),
    ("submission to checkpoint, against the whole process", 2.3, "service", BY_HAND, "total"),
)
FP32_PEERS = (
    "timm",
    "timm-channels-last",
    "torchvision",
    "torchvision-channels-last",
    "fastai",
    "fastai-channels-last",
    "lightning",
    "transformers",
    rows.REFERENCE,
)
EIGHT = (("eight-heads", "tutorial-head"),)
STEP = "step "  # what the limits' figures of training steps begin with


def targets(results: Results) -> list[list[str]]:
    """What, at least, measured; of each row whose parts were all measured in one session."""
    return [
        *([what, f"{least:g} ×", f"{found:.2f} ×"] for what, least, found in _times(results)),
        *_of_the_limit(results),
        *_eights(results),
        *_accuracy(results),
        *_memory(results),
    ]


def _times(results: Results) -> Iterator[tuple[str, float, float]]:
    for what, least, row, against, part in BY:
        times = ratio(results, row, against, part)
        if times is not None:
            yield f"{what}: {rows.TITLES[against]}", least, times
    fastest = _fastest(results, "service-fp32", FP32_PEERS, "total")
    if fastest is not None:
        yield f"the same in fp32: {rows.TITLES[fastest[0]]}, the fastest fp32 loop", 1.7, fastest[1]


def _fastest(results: Results, row: str, others: Sequence[str], part: str) -> tuple[str, float] | None:
    """Of those that it is compared with the fastest one, and how many times as fast it is as that."""
    found = {name: ratio(results, row, name, part) for name in others}
    known = {name: times for name, times in found.items() if times is not None}
    return min(known.items(), key=lambda item: item[1]) if known else None


def _of_the_limit(results: Results) -> Iterator[list[str]]:
    """The full stage as part of the same on ready tensors, and its training as part of a warm step's rate."""
    for row in ("service", "thaw-all"):
        part = ratio(results, row, rows.STAGE_ON_READY, "full")
        if part is not None:
            what = f"full stage, of the same on ready tensors: {rows.TITLES[row]}"
            yield [what, "0.95", f"{part:.2f}"]
    for session in reversed(results.sessions):
        services = results.of("service", session.id)
        kept = results.of("limits-keeping", session.id) or results.of("limits", session.id)
        if services and kept and "full" in services[0].seconds:
            step = statistics.median(_fastest_step(record) for record in kept)
            rate = statistics.median(r.trained["full"] / r.training["full"] for r in services) / step
            what = "its training, of the rate of the fastest single warm steps on ready tensors"
            yield [what, "", f"{rate:.2f}"]
            return


def _fastest_step(record: Record) -> float:
    """Images per second in whichever precision and layout is fastest on the machine."""
    return max(rate for name, rate in record.rates.items() if name.startswith(STEP))


def _eights(results: Results) -> Iterator[list[str]]:
    for name, against in EIGHT:
        found = ratio(results, name, against, "total")
        if found is not None:
            what = f"{rows.TITLES[name].removeprefix('Thaw as a service, ')}, against eight of the tutorial's"
            yield [what, "8 ×", f"{8 * found:.1f} ×"]


def _accuracy(results: Results) -> Iterator[list[str]]:
    own = results.newest("accuracy-thaw-all")
    plain = results.of(f"accuracy-{rows.REFERENCE}", own[0].session) if own else []
    if own and plain and own[0].skipped is None and plain[0].skipped is None:
        ours, theirs = ([max(record.accuracy) for record in records] for records in (own, plain))
        difference = statistics.mean(ours) - statistics.mean(theirs)
        yield [
            "accuracy minus the plain loop's, mean of the seeds",
            f"-{standard_error(theirs):.4f}",
            f"{difference:+.4f}",
        ]


def _memory(results: Results) -> Iterator[list[str]]:
    own = results.newest("service")
    plain = results.of(rows.REFERENCE, own[0].session) if own else []
    if own and plain and own[0].memory and plain[0].memory:
        part = max(r.memory["largest"] for r in own) / max(r.memory["largest"] for r in plain)
        yield ["memory of the training process, of the tutorial's", "at most 1", f"{part:.2f}"]
