"""Features from the cache, where the same network has taken the same images to the same bytes before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from finetune.boundary import Boundary
from finetune.cache import Cache, key_of
from finetune.data.fingerprints import of_samples
from finetune.data.images import DECODER, Images
from finetune.data.loading import Batch
from finetune.device import Compute
from finetune.feature_keys import code_of, digest_of, machine, own_code
from finetune.feature_views import PLAIN, KeptView
from finetune.features import Room
from finetune.feeds import Source
from finetune.folding import folded
from finetune.packing import bytes_of, header_of, pack, unpack
from finetune.rows import Layout, Rows


@dataclass
class Filled:
    """A stage's features, and what they took."""

    train: Rows
    val: Rows
    views: int
    bytes: int
    kept: str
    computed: int  # images, each view counted
    cached: int
    keys: tuple[str, ...] = ()  # of the entries in the cache that hold them


@dataclass(frozen=True)
class _Prefix:
    """The still part of a network at work, with an image to fold it by.

    `key` is of all about it that the bytes depend on; None where the network is not the same after a batch:
    what it gives is not kept.
    """

    run: nn.Module
    layout: Layout
    key: str | None
    example: Tensor

    @cached_property
    def folded(self) -> nn.Module:
        """The same with BatchNorm inside its convolutions, made when it is first needed."""
        return folded(self.run, self.example)


@dataclass(frozen=True)
class _Job:
    """One view of a split's images, to be computed or found."""

    prefix: _Prefix
    source: Source
    files: str | None  # the fingerprint of the split
    view: KeptView
    fold: bool = False


class FeatureStore:
    """Computes what crosses a boundary, or finds it in the cache.

    `backbone` says which network it is; the weights of its still part are looked at. `fold` makes
    BatchNorm a part of the convolutions in training features, where the precision is below fp32.
    """

    def __init__(
        self,
        cache: Cache | None,
        images: Images,
        backbone: object,
        compute: Compute,
        room: Room,
        fold: bool,
    ) -> None:
        self._cache, self._images, self._backbone = cache, images, backbone
        self._compute, self._room = compute, room
        self._fold = fold and compute.precision != "fp32"
        self._computed = self._cached = 0

    def fill(
        self,
        model: nn.Module,
        boundary: Boundary,
        train: Source,
        val: Source,
        views: Sequence[KeptView],
        side: int,
    ) -> Filled | None:
        """The features of the training images' views, of `side` pixels, and of the validation images.

        None where there is no room for them after all. Leaves the model in eval mode.
        """
        self._computed = self._cached = 0
        weights = self._weights(model.eval(), boundary)
        evaluated = self._look(model, boundary, val, val.preprocessing.crop, weights)
        same = side == val.preprocessing.crop
        trained = evaluated if same else self._look(model, boundary, train, side, weights)
        size = trained.layout.bytes * len(views) * train.loader.count
        size += evaluated.layout.bytes * val.loader.count
        kept = self._room.place(size)
        if kept is None or (kept == "disk" and trained.key is None):
            return None
        take = self._in_memory if kept == "memory" else self._on_disk
        files = self._files(train)
        train_jobs = [_Job(trained, train, files, view, self._fold) for view in views]
        val_job = _Job(evaluated, val, self._files(val), PLAIN)
        of_train, of_val = take(train_jobs), take([val_job])
        if of_train is None or of_val is None:
            return None
        keys = tuple(filter(None, map(self._key, (*train_jobs, val_job))))
        return Filled(of_train, of_val, len(views), size, kept, self._computed, self._cached, keys)

    def in_precision(self, compute: Compute) -> "FeatureStore":
        """The same store for features in another precision."""
        return FeatureStore(self._cache, self._images, self._backbone, compute, self._room, self._fold)

    def validation(self, model: nn.Module, boundary: Boundary, val: Source) -> Rows | None:
        """The features of the validation images alone, where the cache has them or keeps them for others.

        None where nothing is kept. Leaves the model in eval mode.
        """
        if self._cache is None:
            return None
        weights = self._weights(model.eval(), boundary)
        prefix = self._look(model, boundary, val, val.preprocessing.crop, weights)
        job = _Job(prefix, val, self._files(val), PLAIN)
        kept = self._room.place(prefix.layout.bytes * val.loader.count)
        if self._key(job) is None or kept is None:
            return None
        return self._in_memory([job]) if kept == "memory" else self._on_disk([job])

    def touch(self, filled: Filled) -> None:
        """Says that features are in use, which an epoch of them does: others are evicted before."""
        if self._cache is not None:
            for key in filled.keys:
                self._cache.touch("features", key)

    def _in_memory(self, jobs: Sequence[_Job]) -> Rows:
        source, layout = jobs[0].source, jobs[0].prefix.layout
        count = source.loader.count
        rows = _empty(len(jobs) * count, layout, source.device)
        for job, part in zip(jobs, torch.split(rows, count), strict=True):
            key = self._key(job)
            kept = self._cache.map("features", key) if self._cache and key else None
            if kept is not None:
                self._cached += count
                part.copy_(unpack(kept))
                continue
            at = 0
            for batch in self._rows(job):
                part[at : at + len(batch)] = batch
                at += len(batch)
            if self._cache and key:
                self._cache.put("features", key, pack(part.cpu()))
        return Rows([rows], layout, count, source.device)

    def _on_disk(self, jobs: Sequence[_Job]) -> Rows | None:
        source, layout = jobs[0].source, jobs[0].prefix.layout
        parts = []
        for job in jobs:
            part = self._mapped(job)
            if part is None:
                return None
            parts.append(part)
        return Rows(parts, layout, source.loader.count, source.device)

    def _mapped(self, job: _Job) -> Tensor | None:
        key = self._key(job)
        if self._cache is None or key is None:
            return None
        content = self._cache.map("features", key)
        if content is None:
            layout, count = job.prefix.layout, job.source.loader.count
            header = header_of(layout.dtype, (count, layout.numbers), (layout.numbers, 1))
            size = header.nbytes + count * layout.bytes
            self._cache.fill("features", key, size, self._bytes(job, header))
            content = self._cache.map("features", key)
        else:
            self._cached += job.source.loader.count
        return None if content is None else unpack(content)

    def _bytes(self, job: _Job, header: memoryview) -> Iterator[memoryview]:
        yield header
        yield from (bytes_of(rows.cpu()) for rows in self._rows(job))

    @torch.no_grad()
    def _rows(self, job: _Job) -> Iterator[Tensor]:
        """The features of one batch after another."""
        prefix = job.prefix
        run = prefix.folded if job.fold else prefix.run
        for images in job.view.images(job.source):
            with self._compute.autocast():
                features = run(images)
            self._computed += len(images)
            yield prefix.layout.rows(features)

    def _key(self, job: _Job) -> str | None:
        """Of all that the bytes depend on; None where they are not to be kept."""
        if job.prefix.key is None or job.files is None:
            return None
        return key_of(
            job.files,
            job.source.preprocessing,
            job.view.name,
            job.source.loader.view.size,
            job.prefix.key,
            job.fold,
            job.source.loader.batch_size,  # a product's rounding depends on the number of its rows
        )

    def _files(self, source: Source) -> str | None:
        if self._cache is None:
            return None
        images = self._images
        try:  # features of other files than the run began with are no use: `look` refuses them
            return of_samples(source.loader.samples, images.root, images.look)
        except OSError:  # computing says what is wrong with the file
            return None

    def _weights(self, model: nn.Module, boundary: Boundary) -> tuple[str, ...]:
        """What tells the prefix from others; nothing where nothing is kept."""
        if self._cache is None:
            return ()
        return boundary.signature, digest_of(boundary.still(model)), code_of(model)

    @torch.no_grad()
    def _look(
        self, model: nn.Module, boundary: Boundary, source: Source, side: int, weights: tuple[str, ...]
    ) -> _Prefix:
        """Runs the prefix on a made-up image, which shows what crosses and how it lies in memory.

        What it gives stands for all on that way without a name: torch's settings, the processor's kernels.
        """
        run, tensors = boundary.prefix(model), boundary.still(model)
        buffers = {name: tensors[name] for name, _ in model.named_buffers() if name in tensors}
        before = {name: buffer.clone() for name, buffer in buffers.items()}
        made_up = Batch(_made_up(side), torch.zeros(1))
        example, _ = next(source.place(iter([made_up])))
        with self._compute.autocast():
            answer = run(example)
        moved = [name for name, buffer in buffers.items() if not torch.equal(buffer, before[name])]
        for name, buffer in buffers.items():
            buffer.copy_(before[name])
        layout = Layout.of(answer)
        key = None
        if self._cache is not None and not moved:
            key = key_of(
                self._backbone,
                weights,
                digest_of({"answer": answer}),
                layout,
                own_code(),
                DECODER,
                self._compute.precision,
                self._compute.layout,
                machine(source.device),
            )
        return _Prefix(run, layout, key, example)


def _empty(count: int, layout: Layout, device: torch.device) -> Tensor:
    """Memory for rows: the device's, or where that has no room the CPU's."""
    try:
        return torch.empty(count, layout.numbers, dtype=layout.dtype, device=device)
    except torch.OutOfMemoryError:
        return torch.empty(count, layout.numbers, dtype=layout.dtype)


def _made_up(side: int) -> Tensor:
    """An image of noise, uint8 (1, 3, side, side)."""
    return torch.randint(
        0, 256, (1, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
