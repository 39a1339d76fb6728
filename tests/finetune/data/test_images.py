import os
import pickle
import shutil
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from finetune.cache import Cache
from finetune.data import images as module
from finetune.data.dataset import list_dataset
from finetune.data.decoding import Undecodable, decode
from finetune.data.facts import examine
from finetune.data.images import Images
from finetune.data.stored import ORIGINAL, Needed, StoredSize

SMALL, LARGE = StoredSize(16), StoredSize(20)  # the images have 28 × 24 pixels
LARGER = StoredSize(100)


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

    def count(file):
        names.append(Path(file.name).name)
        return decode(file)

    monkeypatch.setattr(module, "decode", count)
    return names


def entries(cache):
    return list((cache.root / "images").iterdir()) if cache.root.exists() else []


def same(one, other):
    return torch.equal(one, other) and one.stride() == other.stride()


@pytest.mark.parametrize("size", [ORIGINAL, SMALL, LARGER])
def test_an_image_from_the_cache_is_the_decoded_one_with_its_layout(root, cache, decoded, size):
    for path in sorted(root.rglob("*.png"))[:5]:
        expected = size.fit(decode(path))
        cold, warm = Images(cache, root).at(size), Images(cache, root).at(size)
        assert same(cold(path), expected)
        assert same(cold(path), expected)
        assert same(warm(path), expected)
    assert len(decoded) == 5
    assert len(entries(cache)) == 5


def test_each_size_has_an_entry_of_its_own(root, cache):
    path = next(root.rglob("*.png"))
    images = Images(cache, root)
    sides = [tuple(images.at(size)(path).shape[1:]) for size in (ORIGINAL, SMALL, LARGE, ORIGINAL, SMALL)]
    assert sides == [(24, 28), (16, 18), (20, 23), (24, 28), (16, 18)]
    assert len(entries(cache)) == 3


def test_the_way_of_resizing_is_part_of_the_size(root, cache):
    path, images = next(root.rglob("*.png")), Images(cache, root)
    bicubic = StoredSize(16, "bicubic")
    assert not torch.equal(images.at(SMALL)(path), images.at(bicubic)(path))
    assert torch.equal(Images(cache, root).at(bicubic)(path), bicubic.fit(decode(path)))


def test_an_image_that_is_kept_whole_is_not_decoded_for_another_size(root, cache, decoded):
    path = next(root.rglob("*.png"))
    images = Images(cache, root, sizes=frozenset([SMALL, LARGER]))
    images.at(LARGER)(path)
    assert same(images.at(SMALL)(path), SMALL.fit(decode(path)))
    assert len(decoded) == 1
    assert len(entries(cache)) == 2


def test_an_image_that_was_resized_stands_for_no_other_size(root, cache, decoded):
    path = next(root.rglob("*.png"))
    images = Images(cache, root, sizes=frozenset([SMALL, LARGE]))
    images.at(LARGE)(path)
    assert same(images.at(SMALL)(path), SMALL.fit(decode(path)))
    assert len(decoded) == 2


def test_without_a_cache_an_image_stays_in_memory_for_as_long_as_its_reader(root, decoded):
    images, path = Images(None, root), next(root.rglob("*.png"))
    read = images.at(SMALL)
    assert torch.equal(read(path), read(path))
    assert len(decoded) == 1
    images.at(SMALL)(path)
    assert len(decoded) == 2


def test_without_a_cache_no_more_than_a_bound_stays_in_memory(root, decoded, monkeypatch):
    paths = sorted(root.rglob("*.png"))[:4]
    monkeypatch.setattr(module, "HELD_BYTES", 4 * 2 * SMALL.fit(decode(paths[0])).nbytes)
    for processes, again in ((1, 0), (4, 2)):  # the processes share the bound
        read = Images(None, root).at(SMALL, processes)
        for path in paths * 2:
            read(path)
        assert len(decoded) == 4 + again
        decoded.clear()


def test_a_full_cache_is_no_failure(root, tmp_path, decoded):
    read, paths = Images(Cache(tmp_path / "cache", 100), root).at(SMALL), sorted(root.rglob("*.png"))[:3]
    for path in paths * 2:
        assert torch.equal(read(path), SMALL.fit(decode(path)))
    assert len(decoded) == 3


def test_an_image_that_was_mapped_survives_its_entry(root, cache, decoded):
    read, path = Images(cache, root).at(SMALL), next(root.rglob("*.png"))
    read(path)
    for entry in entries(cache):
        entry.unlink()
    assert torch.equal(read(path), SMALL.fit(decode(path)))
    assert len(decoded) == 1


def test_an_image_in_use_does_not_look_idle(root, cache, monkeypatch):
    read, path = Images(cache, root).at(SMALL), next(root.rglob("*.png"))
    read(path)
    (entry,) = entries(cache)
    os.utime(entry, (0, 0))
    read(path)
    assert entry.stat().st_mtime == 0
    monkeypatch.setattr(module, "TOUCH_AFTER", -1.0)
    read(path)
    assert abs(entry.stat().st_mtime - time.time()) < 60


def test_no_more_images_are_mapped_than_a_process_may_have(root, cache, decoded, monkeypatch):
    monkeypatch.setattr(module, "MOST_MAPPED", 2)
    read, paths = Images(cache, root).at(SMALL), sorted(root.rglob("*.png"))[:5]
    for path in paths * 2:
        assert torch.equal(read(path), SMALL.fit(decode(path)))
    assert len(read._at_hand) == 2
    assert len(decoded) == 5


@pytest.mark.parametrize("same_size", [True, False])
@pytest.mark.parametrize("with_cache", [True, False])
def test_a_changed_image_is_decoded_again(root, cache, decoded, with_cache, same_size):
    path = root / "hues" / "train" / "red" / "00.png"
    images = Images(cache if with_cache else None, root)
    read = images.at(SMALL)
    before = read(path)
    content = (root / "hues" / "train" / "blue" / "00.png").read_bytes()
    length = path.stat().st_size
    padded = content + bytes(max(0, length - len(content)))
    path.write_bytes(padded if same_size else content + bytes(length))
    if same_size:
        os.truncate(path, length)
    assert (path.stat().st_size == length) is same_size
    for again in (read, images.at(SMALL)):
        assert not torch.equal(again(path), before)
        assert torch.equal(again(path), SMALL.fit(decode(path)))


def test_an_image_decoded_by_another_decoder_is_decoded_again(root, cache, decoded, monkeypatch):
    path = next(root.rglob("*.png"))
    Images(cache, root).at()(path)
    monkeypatch.setattr(module, "DECODER", ("12.0", "3.1", "another"))
    Images(cache, root).at()(path)
    assert len(decoded) == 2


@pytest.mark.parametrize("with_cache", [True, False])
def test_what_cannot_be_decoded_is_said_with_a_cache_and_without(root, cache, with_cache):
    read = Images(cache if with_cache else None, root).at(SMALL)
    (root / "bad.png").write_bytes(b"no image")
    for name in ("bad.png", "absent.png"):
        with pytest.raises(Undecodable):
            read(root / name)


def test_data_workers_can_be_given_a_reader_by_any_start_method(root, cache):
    read, path = Images(cache, root).at(SMALL), next(root.rglob("*.png"))
    expected = read(path)
    assert torch.equal(pickle.loads(pickle.dumps(read))(path), expected)


def kept(root, cache, train, val):
    """Keeps `hues` as a check does. Gives the images that a job then reads, and the paths by split."""
    listing = list_dataset(root, "hues")
    needed = Needed(frozenset(train), frozenset(val))
    images = Images(cache, root, sizes=needed.all)
    paths = {split: [image.path for image in some] for split, some in listing.images.items()}
    keep = images.keeping(needed, listing)
    assert all(examine(path, root, keep).sound for some in paths.values() for path in some)
    return images, paths


@pytest.mark.parametrize(
    ("train", "of_each"),
    [
        ([SMALL], 1),
        ([SMALL, LARGE], 2),
        ([SMALL, LARGER], 2),
        ([ORIGINAL], 1),
        ([LARGER], 1),
        ([LARGER, ORIGINAL], 1),
    ],
)
def test_what_a_check_decoded_is_not_decoded_again(root, cache, decoded, train, of_each):
    images, paths = kept(root, cache, train, [SMALL])
    assert len(entries(cache)) == of_each * len(paths["train"]) + len(paths["val"])
    for split, sizes in (("train", train), ("val", [SMALL])):
        for path in paths[split]:
            for size in sizes:
                assert same(images.at(size)(path), size.fit(decode(path)))
    assert decoded == []


def test_where_a_part_is_held_out_a_check_keeps_every_image_for_both_uses(root, cache, decoded):
    listing = list_dataset(root, "loose")
    needed = Needed(frozenset([LARGE]), frozenset([SMALL]))
    images = Images(cache, root, sizes=needed.all)
    paths = [image.path for some in listing.images.values() for image in some]
    for path in paths:
        assert examine(path, root, images.keeping(needed, listing)).sound
        images.at(SMALL)(path), images.at(LARGE)(path)
    assert decoded == []


def test_without_a_cache_a_check_keeps_no_pixels(root, decoded):
    images, paths = kept(root, None, [SMALL], [SMALL])
    images.at(SMALL)(paths["val"][0])
    assert len(decoded) == 1


def test_a_grey_image_is_kept_as_the_colours_that_it_is_decoded_to(root, cache):
    path = root / "grey.png"
    Image.linear_gradient("L").save(path)
    for images in (Images(cache, root), Images(cache, root)):
        assert same(images.at(SMALL)(path), SMALL.fit(decode(path)))
