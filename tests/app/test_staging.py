import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.staging import NameTaken, claim_name, sweep
from finetune.data.dataset import dataset_names

HOLD = """
import sys
from pathlib import Path
from app.staging import claim_name

made = claim_name(Path(sys.argv[1]), sys.argv[2], False)
(made.new / "half").write_text("of it")
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def fill() -> Callable[..., None]:
    def write(folder: Path, *names: str) -> None:
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)

    return write


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}


def put(root: Path, *files: str, replace: bool = False) -> bool:
    made = claim_name(root, "zoo", replace)
    try:
        for name in files:
            (made.new / name).parent.mkdir(parents=True, exist_ok=True)
            (made.new / name).write_text(name)
        return made.put(replace)
    finally:
        made.close()


def test_a_dataset_is_put_among_the_others_and_nothing_else_is_left(root):
    assert put(root, "train/a/1.jpg", "val/a/2.jpg") is False
    assert [p.name for p in root.iterdir()] == ["zoo"]
    assert names(root / "zoo") == {"train/a/1.jpg", "val/a/2.jpg"}
    assert stat.S_IMODE((root / "zoo").stat().st_mode) == 0o755


def test_what_is_on_its_way_is_no_dataset(root):
    made = claim_name(root, "zoo", False)
    assert dataset_names(root) == []
    made.close()
    assert list(root.iterdir()) == []


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (["zoo-main/train/a/1.jpg", "zoo-main/val/a/2.jpg"], {"train/a/1.jpg", "val/a/2.jpg"}),
        (["zoo/a/1.jpg", "zoo/b/2.jpg"], {"a/1.jpg", "b/2.jpg"}),
        (["x/y/a/1.jpg", "x/y/b/2.jpg"], {"a/1.jpg", "b/2.jpg"}),
        (["zoo/labels.csv", "zoo/1.jpg"], {"labels.csv", "1.jpg"}),
        (["zoo/README", "zoo/a/1.jpg", "zoo/b/2.jpg"], {"README", "a/1.jpg", "b/2.jpg"}),
        (["train/a/1.jpg", "train/b/2.jpg"], {"train/a/1.jpg", "train/b/2.jpg"}),
        (["x/train/a/1.jpg", "x/train/b/2.jpg"], {"train/a/1.jpg", "train/b/2.jpg"}),
        (["a/1.jpg", "a/2.jpg"], {"a/1.jpg", "a/2.jpg"}),
        (["a/1.jpg", "b/2.jpg"], {"a/1.jpg", "b/2.jpg"}),
        (["labels.csv", "a/1.jpg"], {"labels.csv", "a/1.jpg"}),
    ],
)
def test_a_single_top_folder_is_left_out_unless_it_is_a_part_of_the_dataset(root, sent, kept):
    put(root, *sent)
    assert names(root / "zoo") == kept


def test_a_name_is_taken_once(root, fill):
    fill(root, "zoo/a/1.jpg")
    with pytest.raises(NameTaken, match="there is a dataset 'zoo' already"):
        claim_name(root, "zoo", False)
    fill(root, "list.csv")
    with pytest.raises(NameTaken, match="name of a file"):
        claim_name(root, "list.csv", True)


def test_two_at_once_do_not_share_a_name(root):
    first = claim_name(root, "zoo", True)
    with pytest.raises(NameTaken, match="being uploaded already"):
        claim_name(root, "zoo", True)
    claim_name(root, "other", True).close()
    first.close()
    claim_name(root, "zoo", True).close()
    assert list(root.iterdir()) == []


def test_a_name_that_is_taken_meanwhile_is_not_overwritten(root, fill):
    made = claim_name(root, "zoo", False)
    fill(made.new, "a/new.jpg")
    fill(root, "zoo/a/1.jpg")
    with pytest.raises(NameTaken):
        made.put(False)
    made.close()
    assert names(root) == {"zoo/a/1.jpg"}


def test_a_replaced_dataset_is_gone_and_nothing_of_it_is_left(root):
    put(root, "a/1.jpg", "b/2.jpg")
    assert put(root, "c/3.jpg", "d/4.jpg", replace=True) is True
    assert names(root) == {"zoo/c/3.jpg", "zoo/d/4.jpg"}


def test_a_link_that_is_replaced_leaves_what_it_leads_to(root, fill, tmp_path):
    fill(tmp_path / "elsewhere", "a/1.jpg")
    root.mkdir()
    (root / "zoo").symlink_to(tmp_path / "elsewhere")
    assert put(root, "c/3.jpg", replace=True) is True
    assert names(root) == {"zoo/c/3.jpg"}
    assert names(tmp_path / "elsewhere") == {"a/1.jpg"}


def test_a_swap_that_fails_leaves_the_old_dataset(root, monkeypatch):
    put(root, "a/1.jpg")
    rename = Path.rename

    def refuse(path, target):
        if path.name == "new":
            raise PermissionError(13, "no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError):
        put(root, "c/3.jpg", replace=True)
    assert names(root) == {"zoo/a/1.jpg"}


def test_what_a_killed_server_left_is_removed_and_what_a_living_one_fills_is_not(root):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, root, "zoo"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    try:
        assert holder.stdout.readline() == b"ready\n"
        sweep(root)
        assert names(root) == {".upload-zoo/lock", ".upload-zoo/new/half"}
        with pytest.raises(NameTaken, match="being uploaded"):
            claim_name(root, "zoo", False)
    finally:
        holder.kill()
        holder.communicate()
    sweep(root)
    assert list(root.iterdir()) == []


def test_the_next_upload_of_a_name_removes_what_the_last_one_left(root, fill):
    fill(root, ".upload-zoo/new/half", ".upload-zoo/archive.zip")
    put(root, "a/1.jpg")
    assert names(root) == {"zoo/a/1.jpg"}


def test_a_dataset_whose_swap_was_cut_in_the_middle_is_there_again(root, fill):
    fill(root, ".upload-zoo/old/a/1.jpg", ".upload-zoo/new/b/2.jpg", ".upload-zoo/lock")
    sweep(root)
    assert names(root) == {"zoo/a/1.jpg"}


def test_a_swap_that_was_made_stays(root, fill):
    fill(root, ".upload-zoo/old/a/1.jpg", ".upload-zoo/lock", "zoo/b/2.jpg")
    sweep(root)
    assert names(root) == {"zoo/b/2.jpg"}


def test_a_data_root_that_is_not_there_is_made_by_an_upload_and_not_by_a_sweep(root):
    sweep(root)
    assert not root.exists()
    put(root, "a/1.jpg")
    assert names(root) == {"zoo/a/1.jpg"}


def test_no_lock_outlives_its_staging(root):
    def open_files():
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # their number alone

    before = open_files()
    held = claim_name(root, "zoo", False)
    for _ in range(3):
        with pytest.raises(NameTaken):
            claim_name(root, "zoo", False)
        sweep(root)
    held.close()
    assert open_files() == before
