"""What crosses a boundary, computed or found: the same bits, and never those of another network or file."""

import dataclasses
import importlib
import os
import shutil
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune import feature_keys, kept_features
from finetune.boundary import HeadInput
from finetune.cache import Cache
from finetune.data.augmentation import evaluation_view, training_view
from finetune.data.dataset import open_dataset
from finetune.data.facts import stamp_of
from finetune.data.images import Images
from finetune.data.loading import Loader
from finetune.device import Compute
from finetune.errors import DatasetInvalid
from finetune.feature_views import PLAIN, training_views
from finetune.features import Room
from finetune.feeds import Source
from finetune.freezing import freezing_of
from finetune.kept_features import FeatureStore
from finetune.spec import DatasetSpec, StageSpec
from finetune.still_part import boundary_of

CPU = torch.device("cpu")
NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, images):
        return self.head(images.mean((2, 3)).clamp(max={limit}))
"""


@pytest.fixture
def root(data_dir, tmp_path):
    shutil.copytree(data_dir / "hues", tmp_path / "data" / "hues")
    return tmp_path / "data"


@pytest.fixture
def model(registry):
    torch.manual_seed(0)
    return registry.find("tiny").make(3, 16)


@pytest.fixture
def source(root, registry):
    """Makes sources of the train split; keywords replace what they are made of."""
    usual = {
        "samples": open_dataset(root, DatasetSpec(path="hues"), 0).train,
        "batch_size": 8,
        "preprocessing": registry.find("tiny").preprocessing,
    }

    def make(**changes):
        parts = {**usual, **changes}
        preprocessing = parts["preprocessing"]
        view = changes.get("view", evaluation_view(preprocessing))
        loader = Loader(parts["samples"], view, parts["batch_size"], 0, False)
        return Source(loader, preprocessing, CPU)

    return make


def a_stage(freeze=None, **fields):
    lr = {"schedule": {"name": "constant", "lr": 0.1}}
    freeze = freeze or {"policy": "backbone"}
    return StageSpec.model_validate({"epochs": 4, "lr": lr, "freeze": freeze, **fields})


@pytest.fixture
def boundary(registry):
    """A boundary of the tiny network."""

    def of(freeze=None):
        row = registry.find("tiny")
        model = row.make(3, 16).to("meta")
        freezing = freezing_of(model, row.heads, a_stage(freeze).freeze, "eval")
        return boundary_of(row, 3, 16, 16, freezing)

    return of


@pytest.fixture
def store(root, tmp_path):
    """Makes stores that share a cache folder."""

    def make(backbone=("tiny", {}), precision="fp32", fold=True, cache=True, **room):
        kept = Cache(tmp_path / "cache", 10**9) if cache else None
        return FeatureStore(kept, Images(kept, root), backbone, Compute(CPU, precision), Room(**room), fold)

    return make


@pytest.fixture
def fill(store, model, source, boundary):
    """Fills with training and validation features of the same images, in the plain view unless said."""

    def of(net=None, here=None, freeze=None, views=(PLAIN,), images=None, **options):
        images = images or source()
        return store(**options).fill(
            net or model, here or boundary(freeze), images, source(), views, images.preprocessing.crop
        )

    return of


def rows(filled):
    """All that was filled, the training images' views first."""
    return [
        given.pick(torch.arange(given.count * views))
        for given, views in ((filled.train, filled.views), (filled.val, 1))
    ]


def same(one, other):
    return all(
        torch.equal(a, b) and a.dtype == b.dtype and a.stride() == b.stride()
        for a, b in zip(rows(one), rows(other), strict=True)
    )


MEMORY: dict[str, int] = {}
DISK, ROOMS = {"memory": 0, "disk": 10**9}, ["memory", "disk"]


@pytest.mark.parametrize(
    "freeze", [{"policy": "backbone"}, {"policy": "before", "module": "body.1"}], ids=str
)
def test_cold_and_warm_in_memory_and_on_the_disk_features_are_what_crosses(
    fill, model, source, boundary, freeze
):
    prefix = boundary(freeze).prefix(model.eval())
    with torch.no_grad():
        given = source()
        expected = torch.cat([prefix(images) for images, _ in given.place(given.loader.in_order())])
    nowhere = fill(freeze=freeze, cache=False)
    turns = [fill(freeze=freeze, **room) for room in (DISK, DISK, MEMORY, MEMORY)]
    assert [(turn.kept, turn.computed, turn.cached) for turn in (nowhere, *turns)] == [
        ("memory", 48, 0),
        ("disk", 24, 24),  # the validation images are the same ones
        ("disk", 0, 48),
        ("memory", 0, 48),
        ("memory", 0, 48),
    ]
    for turn in (nowhere, *turns):
        assert same(turn, nowhere)
        assert all(torch.equal(features, expected) for features in rows(turn))
        assert turn.bytes == 2 * expected.numel() * 4


@pytest.mark.parametrize("room", [MEMORY, DISK], ids=ROOMS)
@pytest.mark.parametrize("augmentation", ["light", "standard"])
def test_each_view_is_kept_by_itself(fill, source, registry, room, augmentation):
    stage = a_stage(augmentation=augmentation, feature_views=3 if augmentation == "standard" else None)
    preprocessing = registry.find("tiny").preprocessing
    view = (
        training_view(stage.augmentation, preprocessing)
        if augmentation == "standard"
        else evaluation_view(preprocessing)
    )
    views, _ = training_views(stage, 0, 0)
    fill(images=source(view=view), views=views[:1], **room)
    filled = fill(images=source(view=view), views=views, **room)
    assert (filled.computed, filled.cached) == (24 * (len(views) - 1), 48)
    assert same(filled, fill(images=source(view=view), views=views, cache=False))
    parts = rows(filled)[0].split(24)
    assert not any(torch.equal(parts[0], other) for other in parts[1:])


def test_what_is_done_to_features_from_the_disk_is_not_done_to_the_disk(fill):
    filled = fill(**DISK)
    for split in (filled.train, filled.val):
        (part,) = split._parts
        part.zero_()
    again = fill(**DISK)
    assert again.computed == 0
    assert same(again, fill(cache=False))


def test_where_there_is_no_room_there_are_no_features(fill):
    assert fill(memory=0, disk=0) is None
    assert fill(memory=0, disk=10**9, cache=False) is None
    assert fill(memory=10**9, disk=0) is not None


def test_a_full_cache_has_no_room_for_what_memory_has_none_for(root, model, source, boundary, tmp_path):
    full = Cache(tmp_path / "cache", 200)
    store = FeatureStore(full, Images(full, root), "tiny", Compute(CPU, "fp32"), Room(0, 10**9), True)
    assert store.fill(model, boundary(), source(), source(), [PLAIN], 16) is None


def test_without_a_cache_they_are_computed_every_time(fill):
    turns = [fill(cache=False) for _ in range(2)]
    assert [(turn.computed, turn.cached) for turn in turns] == [(48, 0)] * 2
    assert same(*turns)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("fold", [True, False])
def test_features_are_kept_in_the_precision_in_which_they_cross(fill, precision, fold):
    plain, given = fill(cache=False), fill(precision=precision, fold=fold)
    expected = torch.float32 if precision == "fp32" else torch.bfloat16
    assert [features.dtype for features in rows(given)] == [expected] * 2
    folded = not torch.equal(*rows(given))  # validation features are never folded
    assert folded == (fold and precision == "bf16")
    for features, exact in zip(rows(given), rows(plain), strict=True):
        torch.testing.assert_close(features.float(), exact, rtol=0.03, atol=0.03)
    again = fill(precision=precision, fold=fold)
    assert (again.computed, same(again, given)) == (0, True)


@pytest.fixture
def keys(monkeypatch, fill):
    """The keys under which a fill looks, training first."""

    def of(*args, **options):
        seen = []
        monkeypatch.setattr(Cache, "map", lambda cache, kind, key: seen.append(key))
        fill(*args, **options)
        return seen

    return of


def test_the_key_is_the_same_for_the_same_and_whatever_the_head(registry, model, keys):
    expected = keys()
    assert keys() == expected
    torch.manual_seed(0)
    twin = registry.find("tiny").make(5, 16)
    twin.load_state_dict({k: v for k, v in model.state_dict().items() if "head" not in k}, strict=False)
    twin.head.register_forward_pre_hook(lambda module, args: None)
    assert keys(twin) == expected


def test_what_is_trained_behind_the_boundary_does_not_change_the_key(model, keys):
    freeze = {"policy": "before", "module": "body.1"}
    before = keys(freeze=freeze)
    with torch.no_grad():
        model.body[1][0].weight.add_(1)
        model.body[1][1].running_mean.add_(1)
    assert keys(freeze=freeze) == before
    with torch.no_grad():
        model.body[0][1].running_mean.add_(1)
    assert set(keys(freeze=freeze)).isdisjoint(before)


def test_each_boundary_precision_and_fold_has_keys_of_its_own(keys):
    found = [
        *keys(),
        *keys(freeze={"policy": "before", "module": "body.1"}),
        *keys(precision="bf16"),
        *keys(precision="bf16", fold=False),
    ]
    assert len(set(found)) == 4  # unfolded training images in the plain view are as validation's
    assert keys(fold=False) == keys()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_change_of_any_number_of_the_frozen_part_changes_the_key(model, keys, data):
    tensors = {name: t for name, t in model.state_dict().items() if not name.startswith("head")}
    name = data.draw(st.sampled_from(sorted(tensors)))
    tensor = tensors[name].reshape(-1)
    index = data.draw(st.integers(0, len(tensor) - 1))
    before, was = keys(), tensor[index].clone()
    raw = tensor[index : index + 1].view(torch.uint8)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        assert set(keys()).isdisjoint(before)
    finally:
        tensor[index] = was
    assert keys() == before


def reordered(make):
    samples = list(make().loader.samples)
    return make(samples=samples[1:] + samples[:1])


def relabelled(make):
    first, *others = make().loader.samples
    return make(samples=[dataclasses.replace(first, label=first.label + 1), *others])


def preprocessed(**changes):
    return lambda make: make(preprocessing=dataclasses.replace(make().preprocessing, **changes))


CHANGES = {
    "order": reordered,
    "label": relabelled,
    "a sample less": lambda make: make(samples=make().loader.samples[1:]),
    "batch size": lambda make: make(batch_size=7),
    "resize": preprocessed(resize=21),
    "crop": preprocessed(crop=15),
    "mean": preprocessed(mean=(0.5, 0.5, 0.50001)),
    "std": preprocessed(std=(0.5, 0.5, 0.50001)),
    "interpolation": preprocessed(interpolation="bicubic"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_of_the_source_changes_the_key(source, keys, change):
    before = keys()[0]
    assert keys(images=change(source))[0] != before


VIEWS = {
    "augmentation": ({"augmentation": "trivial"}, 0, 0),
    "crop scale": ({"augmentation": {"name": "standard", "crop_scale": [0.5, 1.0]}}, 0, 0),
    "seed": ({"augmentation": "standard"}, 1, 0),
    "stage": ({"augmentation": "standard"}, 0, 1),
}


@pytest.mark.parametrize("change", VIEWS.values(), ids=VIEWS)
def test_what_a_drawn_view_depends_on_changes_the_key(keys, change):
    def of(fields, seed, index):
        return keys(views=training_views(a_stage(feature_views=2, **fields), seed, index)[0])[:2]

    usual = of({"augmentation": "standard"}, 0, 0)
    assert len(set(usual)) == 2
    assert set(of(*change)).isdisjoint(usual)


@pytest.mark.parametrize("change", ["content", "time", "size"])
@pytest.mark.parametrize("room", [MEMORY, DISK], ids=ROOMS)
def test_a_changed_file_is_computed_anew(fill, source, change, room):
    fill(**room)
    path = source().loader.samples[3].path
    if change == "time":
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    else:
        path.write_bytes(path.read_bytes() + (b"x" if change == "size" else b""))
    assert fill(**room).computed == 24


@pytest.mark.parametrize("room", [MEMORY, DISK], ids=ROOMS)
def test_a_changed_weight_is_computed_anew(fill, model, room):
    fill(**room)
    with torch.no_grad():
        model.stem[0].weight[0, 0, 0, 0] += 1e-6
    changed = fill(**room)
    assert changed.computed == 24
    assert same(changed, fill(cache=False))


def test_another_name_another_option_or_another_number_of_threads_change_the_key(keys):
    found = {keys()[0], keys(backbone=("teeny", {}))[0], keys(backbone=("tiny", {"a": 1}))[0]}
    torch.set_num_threads(2)
    try:
        found.add(keys()[0])
    finally:
        torch.set_num_threads(1)
    assert len(found) == 4


def test_another_decoder_changes_the_key(keys, monkeypatch):
    before = keys()
    monkeypatch.setattr(kept_features, "DECODER", ("12.0", "3.1", "another"))
    assert set(keys()).isdisjoint(before)


def test_features_of_a_file_that_changed_while_the_job_trains_are_refused(
    fill, store, source, model, boundary
):
    fill()
    images = store()._images
    path = source().loader.samples[3].path
    stamps = {sample.path: stamp_of(sample.path.stat()) for sample in source().loader.samples}
    path.write_bytes(path.read_bytes() + b"x")
    fill()  # by another job, which keeps what it computes
    begun = store()
    begun._images = dataclasses.replace(images, stamps=stamps)
    with pytest.raises(DatasetInvalid, match="was changed while the job trained"):
        begun.fill(model, boundary(), source(), source(), [PLAIN], 16)


@pytest.mark.parametrize("room", [MEMORY, DISK], ids=ROOMS)
def test_features_in_use_are_the_last_to_go(store, model, boundary, source, room, tmp_path):
    used = store(**room)
    filled = used.fill(model, boundary(), source(), source(), [PLAIN], 16)
    entries = list((tmp_path / "cache" / "features").iterdir())
    for entry in entries:
        os.utime(entry, (1, 1))
    used.touch(filled)
    assert entries
    assert all(entry.stat().st_mtime > 1 for entry in entries)


def test_a_network_that_answers_otherwise_has_another_key(model, keys):
    before, forward = keys(), model.body.forward
    model.body.forward = lambda images: forward(images) * 1.001
    assert set(keys()).isdisjoint(before)


def test_other_code_has_another_key_even_where_it_answers_the_same(keys, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file, found = tmp_path / "a_net_of_ones_own.py", set()
    for limit in ("1e9", "1e8", "1e9"):
        file.write_text(NET.format(limit=limit))
        sys.modules.pop(file.stem, None)
        importlib.invalidate_caches()
        torch.manual_seed(0)
        net = importlib.import_module(file.stem).Net()
        found.add(keys(net, HeadInput("head", (3,), 1, 1))[0])
    assert len(found) == 2


def test_our_own_code_on_the_way_is_part_of_the_key(keys, monkeypatch):
    before = keys()
    monkeypatch.setattr(kept_features, "own_code", lambda: "another version's")
    assert set(keys()).isdisjoint(before)


def test_the_files_that_make_our_own_code_are_there():
    feature_keys.own_code.cache_clear()
    assert len(feature_keys.own_code()) == 64


@pytest.mark.parametrize("room", [MEMORY, DISK], ids=ROOMS)
def test_a_network_that_counts_what_goes_by_is_computed_every_time_and_not_kept_on_the_disk(
    registry, fill, room
):
    model, here = registry.find("restless").make(3, 16), HeadInput("head", (8,), 1, 1)
    for _ in range(2):
        model.stem.seen.zero_()
        filled = fill(model, here, **room)
        if room:
            assert filled is None
        else:
            assert (filled.computed, model.stem.seen) == (48, 48)


def test_looking_for_features_draws_nothing_from_torchs_generator(fill, boundary):
    here = boundary()
    fill(here=here)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    fill(here=here)
    assert torch.equal(torch.rand(3), expected)
