"""What comes next is made, and copied to a GPU, while what came before is used."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from finetune.data.loading import Batch

Made = TypeVar("Made")


def ahead(made: Iterator[Made]) -> Generator[Made, None, None]:
    """Gives what an iterator gives, which works in a thread of its own and is one item ahead.

    What the iterator raises is raised here. The thread is gone when the generator ends, or is closed.
    """
    with ThreadPoolExecutor(1, "ahead") as thread:
        _keep_to_one_core(thread)
        end = object()
        coming = thread.submit(next, made, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, made, end)
            yield item  # type: ignore[misc]  # mypy cannot tell it from the mark of the end


def _keep_to_one_core(thread: ThreadPoolExecutor) -> None:
    """The cores are the step's. What a thread says for itself is also what threads to come begin with."""
    cores = torch.get_num_threads()
    thread.submit(_use_one_core).result()
    torch.set_num_threads(cores)


def _use_one_core() -> None:
    torch.get_num_threads()  # now a thread takes what it begins with, and not at its first operation
    torch.set_num_threads(1)


def copied_ahead(batches: Iterator[Batch], device: torch.device) -> Generator[Batch, None, None]:
    """Gives batches on a GPU, which copies one while it computes with the one before."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types for it
    before: tuple[Batch, torch.cuda.Event] | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            copy = batch.to(device)
            copied = stream.record_event()
        if before is not None:
            yield _ready(*before)
        before = copy, copied
    if before is not None:
        yield _ready(*before)


def _ready(copy: Batch, copied: torch.cuda.Event) -> Batch:
    """From now on the copy is what the computing waits for, and its memory is not given to the next one."""
    computing = torch.cuda.current_stream(copy.images.device)
    computing.wait_event(copied)
    copy.images.record_stream(computing)
    copy.labels.record_stream(computing)
    return copy
