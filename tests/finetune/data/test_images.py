import os
import pickle
import shutil

import pytest
import torch

from finetune.cache import Cache
from finetune.data import images as module
from finetune.data.checking import Checked, check_files
from finetune.data.dataset import open_dataset
from finetune.data.decoding import Undecodable, decode
from finetune.data.images import Images
from finetune.errors import DatasetInvalid
from finetune.spec import DatasetSpec

ALL = 33


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


def check(root, cache, name="hues", seed=0):
    dataset = open_dataset(root, DatasetSpec(path=name), seed)
    return check_files(dataset, root, Images(cache, root.resolve()))


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


def test_a_second_check_decodes_nothing(root, cache, decoded):
    assert check(root, cache) == Checked(decoded=ALL, known=0)
    assert len(decoded) == ALL
    assert check(root, cache) == Checked(decoded=0, known=ALL)
    assert len(decoded) == ALL


def test_a_second_check_decodes_nothing_even_where_no_image_found_room(root, tmp_path, decoded):
    cache = Cache(tmp_path / "small", 100)
    check(root, cache)
    assert check(root, cache) == Checked(decoded=0, known=ALL)


def test_another_split_of_the_same_files_needs_no_check(root, cache):
    assert check(root, cache, "loose", seed=0).decoded == 30
    assert check(root, cache, "loose", seed=1) == Checked(decoded=0, known=30)


def test_a_check_decodes_what_is_new_alone(root, cache, decoded):
    check(root, cache)
    decoded.clear()
    path = root / "hues" / "val" / "red" / "new.png"
    shutil.copy(root / "hues" / "val" / "red" / "00.png", path)
    os.utime(root / "hues" / "val" / "blue" / "01.png", ns=(0, 0))
    assert check(root, cache) == Checked(decoded=2, known=ALL - 1)
    assert sorted(decoded) == ["01.png", "new.png"]


def test_without_a_cache_a_check_decodes_everything(root, decoded):
    for turn in (1, 2):
        assert check(root, None) == Checked(decoded=ALL, known=0)
        assert len(decoded) == turn * ALL


def test_bad_files_are_named_by_every_check_until_they_are_mended(root, cache):
    path = root / "hues" / "train" / "red" / "03.png"
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    said = []
    for kept in (cache, cache, None):
        with pytest.raises(DatasetInvalid) as error:
            check(root, kept)
        said.append(error.value.message)
    assert said[0] == said[1] == said[2]
    assert "1 files cannot be decoded, mend or remove them: hues/train/red/03.png" in said[0]
    path.write_bytes(good)
    assert check(root, cache) == Checked(decoded=1, known=ALL - 1)
