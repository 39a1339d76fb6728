import dataclasses
import importlib
import os
import shutil
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune.cache import Cache
from finetune.data.augmentation import evaluation_view
from finetune.data.dataset import open_dataset
from finetune.data.loading import Loader
from finetune.feeds import Source, features_of
from finetune.kept_features import Features
from finetune.spec import DatasetSpec

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
        return Source(loader, preprocessing, torch.device("cpu"))

    return make


@pytest.fixture
def key(root, tmp_path):
    """The key of a model's features of a source."""

    def of(model, source, backbone=("tiny", {})):
        return Features(Cache(tmp_path / "cache", 10**9), root, backbone)._key(model, "head", source)

    return of


@pytest.fixture
def features(root, tmp_path):
    return Features(Cache(tmp_path / "cache", 10**9), root, ("tiny", {}))


def test_features_from_the_cache_are_those_that_were_computed(features, model, source):
    first, second = (features(model, "head", source()) for _ in range(2))
    assert features.counted() == (24, 24)
    assert features.counted() == (0, 0)
    expected = features_of(model, "head", source())
    assert torch.equal(first, expected)
    assert torch.equal(second, expected)
    assert second.stride() == expected.stride()


def test_without_a_cache_they_are_computed_every_time(root, model, source):
    features = Features(None, root, ("tiny", {}))
    assert torch.equal(features(model, "head", source()), features(model, "head", source()))
    assert features.counted() == (48, 0)


def test_the_key_is_the_same_for_the_same_and_whatever_the_head(registry, model, source, key):
    expected = key(model, source())
    assert expected is not None
    assert key(model, source()) == expected
    torch.manual_seed(0)
    twin = registry.find("tiny").make(5, 16)
    twin.load_state_dict({k: v for k, v in model.state_dict().items() if "head" not in k}, strict=False)
    twin.head.register_forward_pre_hook(lambda module, args: None)
    assert key(twin, source()) == expected


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_change_of_any_number_of_the_frozen_part_changes_the_key(model, source, key, data):
    tensors = {name: t for name, t in model.state_dict().items() if not name.startswith("head")}
    name = data.draw(st.sampled_from(sorted(tensors)))
    tensor = tensors[name].reshape(-1)
    index = data.draw(st.integers(0, len(tensor) - 1))
    before, was = key(model, source()), tensor[index].clone()
    raw = tensor[index : index + 1].view(torch.uint8)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        assert key(model, source()) != before
    finally:
        tensor[index] = was
    assert key(model, source()) == before


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
    "view": lambda make: make(view=lambda image, seed=0: make().preprocessing.centre(image).flip(2)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_of_the_source_changes_the_key(model, source, key, change):
    assert key(model, change(source)) != key(model, source())


@pytest.mark.parametrize("change", ["content", "time", "size"])
def test_a_changed_file_changes_the_key(model, source, key, change):
    before, path = key(model, source()), source().loader.samples[3].path
    if change == "time":
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    else:
        path.write_bytes(path.read_bytes() + (b"x" if change == "size" else b""))
    assert key(model, source()) != before


def test_another_name_another_option_or_another_number_of_threads_change_the_key(model, source, key):
    keys = {
        key(model, source()),
        key(model, source(), ("teeny", {})),
        key(model, source(), ("tiny", {"a": 1})),
    }
    torch.set_num_threads(2)
    try:
        keys.add(key(model, source()))
    finally:
        torch.set_num_threads(1)
    assert len(keys) == 4


def test_a_network_that_answers_otherwise_has_another_key(model, source, key):
    before, forward = key(model, source()), model.body.forward
    model.body.forward = lambda images: forward(images) * 1.001
    assert key(model, source()) != before


def test_other_code_has_another_key_even_where_it_answers_the_same(source, key, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file, keys = tmp_path / "a_net_of_ones_own.py", set()
    for limit in ("1e9", "1e8", "1e9"):
        file.write_text(NET.format(limit=limit))
        sys.modules.pop(file.stem, None)
        importlib.invalidate_caches()
        torch.manual_seed(0)
        keys.add(key(importlib.import_module(file.stem).Net(), source()))
    assert len(keys) == 2


def test_a_network_that_counts_what_goes_by_is_computed_every_time(registry, features, source):
    model = registry.find("restless").make(3, 16)
    for _ in range(2):
        model.stem.seen.zero_()
        features(model, "head", source())
        assert model.stem.seen == 24
    assert features.counted() == (48, 0)


def test_asking_for_the_key_draws_nothing_from_torchs_generator(model, source, key):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    key(model, source())
    assert torch.equal(torch.rand(3), expected)
