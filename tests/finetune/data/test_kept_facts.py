import dataclasses
import os
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finetune.data import kept_facts as module
from finetune.data.facts import FileFacts, examine
from finetune.data.kept_facts import file_of, load, save


@pytest.fixture
def facts(tmp_path, photograph):
    """Facts of a sound file, a damaged one, and one with an odd name."""
    photograph(1).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:500])
    odd = os.fsdecode(b"pets/\xff\n.jpg")
    found = examine(tmp_path / "a.jpg", tmp_path)
    return {"pets/a.jpg": found, "pets/b.jpg": examine(tmp_path / "b.jpg", tmp_path), odd: found}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "checks" / "x.parquet"


def test_what_is_kept_is_found_again_as_it_was(file, facts):
    save(file, facts)
    assert load(file) == facts


def test_what_may_be_otherwise_next_time_is_not_kept(file, facts):
    save(file, facts | {"pets/gone.jpg": FileFacts((0, 0, 0), "unreadable", "No such file or directory")})
    assert load(file) == facts


def test_every_dataset_of_every_data_root_has_a_file_of_its_own(tmp_path):
    places = [(tmp_path, "a"), (tmp_path, "b"), (tmp_path / "a", "a")]
    assert len({file_of(tmp_path / "checks", *place) for place in places}) == 3


SPOILT = {
    "absent": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "text": lambda file: file.write_text("no parquet"),
    "half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "another table": lambda file: pq.write_table(pa.table({"name": [b"pets/a.jpg"]}), file),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_file_that_is_of_no_use_is_ignored_and_made_anew(file, facts, spoil):
    save(file, facts)
    spoil(file)
    assert load(file) == {}
    if not file.is_dir():
        save(file, facts)
        assert load(file) == facts


def test_a_bit_that_turns_anywhere_makes_no_other_facts(file, facts):
    save(file, facts)
    content = file.read_bytes()
    found = []
    for place in range(0, len(content), 11):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        found.append(load(file))
    assert all(one in ({}, facts) for one in found)
    assert {} in found


def test_facts_of_another_decoder_are_ignored(file, facts, monkeypatch):
    other = module.SCHEMA.with_metadata({b"thaw": module.MAKERS.replace(b".", b"_", 1)})
    with monkeypatch.context() as patch:
        patch.setattr(module, "SCHEMA", other)
        save(file, facts)
        assert load(file) == facts
    assert load(file) == {}


def test_where_nothing_can_be_written_nothing_is_kept_and_nothing_fails(tmp_path, facts):
    (tmp_path / "file").write_text("no folder")
    save(tmp_path / "file" / "x.parquet", facts)
    assert load(tmp_path / "file" / "x.parquet") == {}


def test_what_a_killed_process_left_goes_with_time(file, facts):
    save(file, facts)
    old, new = (file.with_name(f".{file.name}.{name}") for name in ("old", "new"))
    for left in (old, new):
        left.touch()
    os.utime(old, (time.time() - 2 * module.ABANDONED_AFTER,) * 2)
    save(file, facts)
    assert not old.exists()
    assert new.exists()


BUSY = """
import sys
from pathlib import Path
from finetune.data.facts import FileFacts
from finetune.data.kept_facts import load, save

file, mark = Path(sys.argv[1]), sys.argv[2]
for turn in range(40):
    facts = {f"{n}.jpg": FileFacts((n, 1, 1), "sound", sha256=mark) for n in range(200)}
    save(file, facts)
    found = load(file)
    assert len(found) == 200 and len({one.sha256 for one in found.values()}) == 1
"""


def test_processes_that_write_at_once_leave_what_one_of_them_wrote(file):
    processes = [subprocess.Popen([sys.executable, "-c", BUSY, str(file), mark]) for mark in "ab"]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert len({one.sha256 for one in load(file).values()}) == 1
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_every_field_of_facts_is_kept():
    told = {field.name for field in dataclasses.fields(FileFacts)} - {"stamp", "look"}
    assert told < set(module.SCHEMA.names)
