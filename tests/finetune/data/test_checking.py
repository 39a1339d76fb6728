import json
import pickle
import shutil
import time
from pathlib import Path

import pytest
from PIL import Image

from finetune.data.checking import check_dataset, open_checker
from finetune.data.problems import Sizes
from finetune.errors import DatasetNotFound

REAL = Path(__file__).resolve().parents[4] / "shared" / "data"


@pytest.fixture
def root(tmp_path, draw_photographs):
    draw_photographs(tmp_path / "data" / "pets")
    return tmp_path / "data"


def test_a_check_tells_what_there_is(root, tmp_path, photograph):
    photograph(99, (40, 30)).save(root / "pets" / "train" / "ants" / "small.jpg")
    photograph(98, (400, 300)).save(root / "pets" / "train" / "ants" / "large.jpg")
    before = time.time()
    check = check_dataset(root, "pets", tmp_path / "checks")
    assert (check.name, check.images, check.opened, check.known) == ("pets", 26, 26, 0)
    assert check.sizes == Sizes((40, 30), (160, 120), (400, 300))
    assert len(check.fingerprint or "") == 64
    assert check.problems == ()
    assert before <= check.checked_at <= time.time()
    again = check_dataset(root, "pets", tmp_path / "checks")
    assert (again.fingerprint, again.opened, again.known) == (check.fingerprint, 0, 26)


def test_nothing_is_written_where_nothing_is_to_be_kept(root, tmp_path):
    check_dataset(root, "pets", None)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_where_nothing_can_be_trained_on_there_is_no_fingerprint_and_no_size(root):
    for path in root.rglob("*.jpg"):
        path.write_text("no image")
    check = check_dataset(root, "pets", None)
    assert (check.fingerprint, check.sizes, check.images) == (None, None, 24)
    assert check.to_json()["sizes"] is None


def test_a_dataset_that_is_not_there_is_not_found(root):
    for path in ("pet", "../data/pets", "pets/train/ants/000.jpg"):
        with pytest.raises(DatasetNotFound):
            check_dataset(root, path, None)


def test_a_checker_answers_with_json_and_tells_how_far_it_is(root, tmp_path):
    (root / "pets" / "val" / "bees" / "notes.jpg").write_text("no image")
    told: list[object] = []
    answer = open_checker(root, tmp_path / "checks")("pets", told.append)
    assert json.loads(json.dumps(answer)) == answer
    assert answer["sizes"] == {"smallest": [160, 120], "median": [160, 120], "largest": [160, 120]}
    (problem,) = answer["problems"]
    assert (problem["kind"], problem["severity"]) == ("not_an_image", "error")
    assert problem["files"] == ["val/bees/notes.jpg"]
    assert told[-1] == (25, 25)
    assert pickle.loads(pickle.dumps(answer)) == answer


@pytest.mark.skipif(not (REAL / "hymenoptera").is_dir(), reason="../shared has no hymenoptera")
def test_ants_and_bees_have_one_placeholder_and_what_is_done_to_them_is_named(tmp_path):
    check = check_dataset(REAL, "hymenoptera", None)
    assert [(one.kind, one.files) for one in check.problems] == [
        ("placeholder", ("train/ants/imageNotFound.gif",))
    ]
    folder = tmp_path / "data" / "pets"
    shutil.copytree(REAL / "hymenoptera", folder)
    some = sorted((folder / "train" / "bees").glob("*.jpg"))
    some[0].write_bytes(some[0].read_bytes()[:5000])
    some[1].write_text("no image")
    with Image.open(some[2]) as image:
        half = image.resize((image.width // 2, image.height // 2))
        half.save(folder / "val" / "bees" / "other.jpg", quality=40)
    shutil.copy(some[3], folder / "val" / "bees" / "same.jpg")
    problems = {one.kind: one.files for one in check_dataset(tmp_path / "data", "pets", None).problems}
    assert problems == {
        "unreadable": (f"train/bees/{some[0].name}",),
        "not_an_image": (f"train/bees/{some[1].name}",),
        "leak": (f"train/bees/{some[3].name}", "val/bees/same.jpg"),
        "near_leak": (f"train/bees/{some[2].name}", "val/bees/other.jpg"),
        "placeholder": ("train/ants/imageNotFound.gif",),
    }
