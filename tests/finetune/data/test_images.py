import os
import pickle
import shutil

import pytest
import torch

from finetune.cache import Cache
from finetune.data import images as module
from finetune.data.decoding import Undecodable, decode
from finetune.data.facts import examine
from finetune.data.images import Images


@pytest.fixture
def root(data_dir, tmp_path):
    """A data root of one's own to spoil."""
    shutil.copytree(data_dir, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache", 10**9)


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that are decoded from now on."""
    names = []

    def count(path):
        names.append(path.name)
        return decode(path)

    monkeypatch.setattr(module, "decode", count)
    return names


def test_an_image_from_the_cache_is_the_decoded_one_with_its_layout(root, cache, decoded):
    for path in sorted(root.rglob("*.png"))[:5]:
        images = Images(cache, root)
        first, second, expected = images(path), images(path), decode(path)
        assert torch.equal(first, expected)
        assert torch.equal(second, expected)
        assert second.stride() == expected.stride()
    assert len(decoded) == 5


def test_without_a_cache_every_image_is_decoded_every_time(root, decoded):
    images, path = Images(None, root), next(root.rglob("*.png"))
    assert torch.equal(images(path), images(path))
    assert len(decoded) == 2


@pytest.mark.parametrize("same_size", [True, False])
def test_a_changed_image_is_decoded_again(root, cache, pictures, decoded, same_size):
    images, path = Images(cache, root), root / "hues" / "train" / "red" / "00.png"
    before = images(path)
    content = (root / "hues" / "train" / "blue" / "00.png").read_bytes()
    length = path.stat().st_size
    padded = content + bytes(max(0, length - len(content)))
    path.write_bytes(padded if same_size else content + bytes(length))
    if same_size:
        os.truncate(path, length)
    assert (path.stat().st_size == length) is same_size
    assert not torch.equal(images(path), before)
    assert torch.equal(images(path), decode(path))
    assert len(decoded) == 2


def test_an_image_decoded_by_another_decoder_is_decoded_again(root, cache, decoded, monkeypatch):
    images, path = Images(cache, root), next(root.rglob("*.png"))
    images(path)
    monkeypatch.setattr(module, "DECODER", ("12.0", "3.1", "another"))
    images(path)
    assert len(decoded) == 2


@pytest.mark.parametrize("with_cache", [True, False])
def test_what_cannot_be_decoded_is_said_with_a_cache_and_without(root, cache, with_cache):
    images = Images(cache if with_cache else None, root)
    (root / "bad.png").write_bytes(b"no image")
    for name in ("bad.png", "absent.png"):
        with pytest.raises(Undecodable):
            images(root / name)


def test_data_workers_can_be_given_them_by_any_start_method(root, cache):
    images, path = Images(cache, root), next(root.rglob("*.png"))
    assert torch.equal(pickle.loads(pickle.dumps(images))(path), decode(path))


def test_what_a_check_decoded_is_not_decoded_again(root, cache, decoded):
    images, paths = Images(cache, root), sorted(root.rglob("*.png"))[:5]
    for path in paths:
        assert examine(path, images.keep).sound
    for path in paths:
        kept, expected = images(path), decode(path)
        assert torch.equal(kept, expected)
        assert kept.stride() == expected.stride()
    assert decoded == []


def test_without_a_cache_a_check_keeps_no_pixels(root, decoded):
    images, path = Images(None, root), next(root.rglob("*.png"))
    assert examine(path, images.keep).sound
    images(path)
    assert len(decoded) == 1
