import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune import cache as module
from finetune.cache import HEADER, Cache, key_of

KILOBYTE = memoryview(bytes(1024 - HEADER.size))  # so much that an entry is a kilobyte


def files(root):
    return [path for path in root.rglob("*") if path.is_file() and path.name != ".total"]


def size(root):
    return sum(path.stat().st_size for path in files(root))


def age(cache, key, seconds, kind="things"):
    then = time.time() - seconds
    os.utime(cache.root / kind / key, (then, then))


def fill(cache, count, oldest=5000.0):
    """Entries of a kilobyte, the first of which has been idle for longest."""
    for number in range(count):
        cache.put("things", str(number), [KILOBYTE])
        age(cache, str(number), oldest - number)


def there(cache, kind, key):
    """Whether there is an entry, looked for without using it."""
    return (cache.root / kind / key).exists()


def held(cache, count):
    return [number for number in range(count) if there(cache, "things", str(number))]


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache", 10 * 1024)


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_what_was_put_is_got(tmp_path_factory, parts):
    cache = Cache(tmp_path_factory.mktemp("cache"), 10_000)
    cache.put("things", "a", [memoryview(part) for part in parts])
    assert bytes(cache.get("things", "a") or b"") == b"".join(parts)
    assert cache.get("things", "a") is not None
    assert there(cache, "things", "a")


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_what_was_put_is_mapped_by_who_put_it_and_by_others(tmp_path_factory, parts):
    cache = Cache(tmp_path_factory.mktemp("cache"), 10_000)
    cache.put("things", "a", [memoryview(part) for part in parts])
    for one in (cache, cache, Cache(cache.root, 10_000)):
        mapped = one.map("things", "a")
        assert mapped is not None
        assert bytes(mapped) == b"".join(parts)


def test_what_is_written_to_a_mapped_entry_stays_with_who_writes(cache):
    cache.put("things", "a", [memoryview(b"content")])
    cache.map("things", "a")[:3] = b"mad"
    assert bytes(cache.map("things", "a")) == cache.get("things", "a") == b"content"


def test_a_mapped_entry_survives_its_eviction(cache):
    fill(cache, 10)
    mapped = cache.map("things", "0")
    age(cache, "0", 6000)
    cache.put("things", "new", [KILOBYTE])
    assert not there(cache, "things", "0")
    assert bytes(mapped) == bytes(KILOBYTE)
    assert cache.map("things", "0") is None


@pytest.mark.parametrize("use", [Cache.map, Cache.touch])
def test_an_entry_that_is_mapped_or_touched_is_in_use(cache, use):
    fill(cache, 10)
    use(cache, "things", "0")
    cache.put("things", "new", [KILOBYTE])
    assert held(cache, 10) == [0, *range(3, 10)]


def test_an_absent_entry_is_neither_mapped_nor_touched(cache):
    assert cache.map("things", "a") is None
    cache.touch("things", "a")
    assert not there(cache, "things", "a")


def test_a_checksum_is_looked_at_once_in_a_process(cache, monkeypatch):
    cache.put("things", "a", [KILOBYTE])
    other, looked = Cache(cache.root, cache.budget), []

    def look(content):
        looked.append(1)
        return crc32(content)

    monkeypatch.setattr("finetune.cache.zlib.crc32", look)
    for _ in range(3):
        assert cache.map("things", "a") is not None  # the one that put it knows it
        assert other.map("things", "a") is not None
    assert len(looked) == 1


def test_what_was_not_put_is_not_there(cache):
    cache.put("things", "a", [memoryview(b"x")])
    for kind, key in (("things", "b"), ("others", "a")):
        assert cache.get(kind, key) is None
        assert not there(cache, kind, key)


def test_keys_differ_where_any_part_does():
    keys = [key_of("a", 1), key_of("a", 2), key_of("a", "1"), key_of("a1"), key_of("a", (1,)), key_of()]
    assert len(set(keys)) == len(keys)
    assert key_of("a", 1) == keys[0]


DAMAGES = {
    "a flipped bit": lambda content: content[:70] + bytes([content[70] ^ 1]) + content[71:],
    "a flipped bit in the checksum": lambda content: content[:16] + bytes([content[16] ^ 1]) + content[17:],
    "a missing end": lambda content: content[:-1],
    "a longer end": lambda content: content + b"\0",
    "no content": lambda content: content[: HEADER.size],
    "half a header": lambda content: content[:20],
    "nothing": lambda content: b"",
    "zeros, as after a power failure": lambda content: bytes(len(content)),
    "something else": lambda content: b"GIF89a" * 100,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("look", [Cache.get, Cache.map])
def test_a_damaged_entry_is_removed_and_can_be_put_again(cache, damage, look):
    cache.put("things", "a", [memoryview(b"content" * 20)])
    path = cache.root / "things" / "a"
    path.write_bytes(damage(path.read_bytes()))
    assert look(Cache(cache.root, cache.budget), "things", "a") is None
    assert not path.exists()
    cache.put("things", "a", [memoryview(b"content" * 20)])
    assert cache.get("things", "a") == b"content" * 20


def test_what_has_not_been_used_for_longest_goes_first(cache):
    fill(cache, 10)
    for used in ("0", "2"):
        assert cache.get("things", used) is not None
    cache.put("things", "new", [KILOBYTE])
    assert held(cache, 10) == [0, 2, 4, 5, 6, 7, 8, 9]
    assert there(cache, "things", "new")


def test_an_entry_is_not_evicted_for_itself(cache):
    fill(cache, 10)
    cache.put("things", "new", [memoryview(bytes(10 * 1024 - HEADER.size))])
    assert held(cache, 10) == []
    assert there(cache, "things", "new")


def test_what_is_larger_than_the_budget_is_not_kept_and_evicts_nothing(cache):
    fill(cache, 3)
    cache.put("things", "new", [memoryview(bytes(10 * 1024))])
    assert held(cache, 3) == [0, 1, 2]
    assert not there(cache, "things", "new")


def test_entries_in_use_do_not_go_for_one_that_asks_for_idle_ones(cache):
    fill(cache, 10, oldest=50)
    cache.put("things", "new", [KILOBYTE], idle_seconds=60)
    assert held(cache, 10) == list(range(10))
    assert not there(cache, "things", "new")
    cache.put("things", "dear", [KILOBYTE])
    assert there(cache, "things", "dear")


def test_room_is_not_searched_for_at_every_turn_where_there_was_none(cache, monkeypatch):
    fill(cache, 10, oldest=50)
    searched = []

    def search(*args):
        searched.append(1)
        return 10 * 1024

    monkeypatch.setattr(Cache, "_make_room", search)
    for number in range(5):
        cache.put("things", f"new {number}", [KILOBYTE], idle_seconds=60)
    assert len(searched) == 1


def test_the_budget_is_kept_however_many_entries_come(cache):
    for number in range(100):
        cache.put("things", str(number), [memoryview(bytes(number * 17 % 2000))])
        assert size(cache.root) <= cache.budget
    assert size(cache.root) > cache.budget / 2


def test_a_smaller_budget_than_before_is_kept_to(cache):
    fill(cache, 10)
    smaller = Cache(cache.root, 4 * 1024)
    smaller.put("things", "new", [KILOBYTE])
    assert size(cache.root) <= smaller.budget
    assert there(smaller, "things", "new")


@pytest.mark.parametrize("lost", ["", "a million", "-1", "999999999"])
def test_a_count_that_was_lost_is_made_anew(cache, lost):
    fill(cache, 9)
    (cache.root / ".total").write_text(lost)
    cache.put("things", "9", [KILOBYTE])
    assert held(cache, 10) == list(range(10))
    cache.put("things", "10", [KILOBYTE])
    assert size(cache.root) <= cache.budget


def test_a_cache_that_was_emptied_by_hand_fills_again(cache):
    fill(cache, 10)
    for path in files(cache.root):
        path.unlink()
    fill(cache, 10)
    assert held(cache, 10) == list(range(10))


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), OSError(30, "Read-only")])
def test_a_disk_that_takes_nothing_is_no_failure(cache, monkeypatch, failure):
    def fail(*args):
        raise failure

    monkeypatch.setattr(module, "_write", fail)
    cache.put("things", "a", [KILOBYTE])
    assert cache.get("things", "a") is None


def test_a_folder_that_cannot_be_is_no_failure(tmp_path):
    (tmp_path / "file").write_text("no folder")
    cache = Cache(tmp_path / "file", 10_000)
    cache.put("things", "a", [KILOBYTE])
    assert cache.get("things", "a") is None
    assert not there(cache, "things", "a")


def test_a_lock_that_is_never_let_go_holds_up_nobody_for_long(cache, monkeypatch):
    monkeypatch.setattr(module, "LOCK_PATIENCE", 0.05)
    fill(cache, 1)
    with (cache.root / ".total").open() as hung:
        fcntl.flock(hung, fcntl.LOCK_EX)
        cache.put("things", "new", [KILOBYTE])
        assert cache.get("things", "0") is not None
    assert not there(cache, "things", "new")


def test_an_entry_counts_before_it_is_written(cache, monkeypatch):
    counted = []
    monkeypatch.setattr(module, "_write", lambda temporary, parts: counted.append(size(cache.root)))
    cache.put("things", "a", [KILOBYTE])
    assert counted == [1024]


def test_an_entry_that_is_evicted_while_it_is_looked_for_is_no_failure(cache, monkeypatch):
    fill(cache, 1)

    def evict(path):
        path.unlink()
        os.utime(path)

    monkeypatch.setattr(module, "_touch", evict)
    assert cache.get("things", "0") is None
    assert not there(cache, "things", "0")


def test_threads_may_put_at_once(cache):
    threads = [
        threading.Thread(target=lambda n=n: [cache.put("things", f"{n} {i}", [KILOBYTE]) for i in range(20)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert size(cache.root) <= cache.budget
    assert all(cache.get("things", path.name) is not None for path in files(cache.root))


BUSY = """
import random, sys
from pathlib import Path
from finetune.cache import Cache

cache, dice = Cache(Path(sys.argv[1]), 100_000), random.Random(sys.argv[2])
held = []
for _ in range(int(sys.argv[3])):
    key = dice.randrange(60)
    content = random.Random(key).randbytes(key * 100)
    found = dice.choice([cache.get, cache.map])("things", str(key))
    assert found is None or bytes(found) == content, key
    if found is not None:
        held = [*held[-20:], (found, content)]
    assert all(bytes(one) == expected for one, expected in held)
    cache.put("things", str(key), [memoryview(content)])
"""


def busy(root, seed, turns=700):
    return subprocess.Popen([sys.executable, "-c", BUSY, str(root), str(seed), str(turns)])


def test_processes_that_put_and_evict_at_once_get_what_was_put_and_keep_to_the_budget(tmp_path):
    processes = [busy(tmp_path / "cache", seed) for seed in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert size(tmp_path / "cache") <= 100_000
    assert not [path for path in files(tmp_path / "cache") if path.name.startswith(".")]


def test_processes_that_are_killed_leave_a_cache_that_works(tmp_path, until):
    root = tmp_path / "cache"
    for seed in range(3):
        process = busy(root, seed, turns=10**6)
        count = len(files(root)) if root.exists() else 0
        until(lambda count=count: root.exists() and (len(files(root)) > count or count > 20), 20, "it puts")
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert busy(root, 99).wait(60) == 0
    assert size(root) <= 100_000


def test_what_a_killed_process_left_half_written_goes_when_room_is_needed(cache):
    fill(cache, 8)
    abandoned, written = (cache.root / "things" / name for name in (".abandoned", ".written"))
    for path in (abandoned, written):
        path.write_bytes(KILOBYTE)
    age(cache, ".abandoned", module.ABANDONED_AFTER + 2000)
    age(cache, ".written", 100)
    for number in range(8, 20):
        cache.put("things", str(number), [KILOBYTE])
    assert not abandoned.exists()
    assert written.exists()
    assert size(cache.root) <= cache.budget


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_what_was_filled_part_by_part_is_got_and_mapped(tmp_path_factory, parts):
    cache = Cache(tmp_path_factory.mktemp("cache"), 10_000)
    whole = b"".join(parts)
    cache.fill("things", "a", len(whole), (memoryview(part) for part in parts))
    mapped = cache.map("things", "a")
    assert mapped is not None
    assert bytes(mapped) == bytes(cache.get("things", "a") or b"") == whole


def test_a_write_into_what_is_mapped_is_seen_by_nobody_else(cache):
    cache.put("things", "a", [memoryview(b"before")])
    mapped = cache.map("things", "a")
    assert mapped is not None
    mapped[:] = b"after!"
    assert cache.get("things", "a") == cache.map("things", "a") == b"before"


def test_what_is_mapped_outlives_its_eviction(cache):
    fill(cache, 1)
    mapped = cache.map("things", "0")
    (cache.root / "things" / "0").unlink()
    assert mapped == KILOBYTE


@pytest.mark.parametrize("place", [0, 9, 30, -1])
def test_a_damaged_entry_is_not_mapped_and_goes(cache, place):
    cache.put("things", "a", [memoryview(b"content" * 9)])
    path = cache.root / "things" / "a"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    used = place < 20 or place == -1  # the header's padding says nothing
    other = Cache(cache.root, cache.budget)  # as in another process: who put it knows it
    assert (other.map("things", "a") is None) == used
    assert there(cache, "things", "a") != used


@pytest.mark.parametrize("content", [b"", b"short"])
def test_an_entry_that_is_too_short_is_not_mapped(cache, content):
    (cache.root / "things").mkdir(parents=True)
    (cache.root / "things" / "a").write_bytes(content)
    assert cache.map("things", "a") is None
    assert cache.map("things", "absent") is None


def test_parts_are_made_only_where_there_is_room_for_all_of_them(cache):
    made = []

    def parts():
        made.append(True)
        yield KILOBYTE

    cache.fill("things", "large", 11 * 1024, parts())
    assert not made
    cache.fill("things", "small", KILOBYTE.nbytes, parts())
    cache.fill("things", "small", KILOBYTE.nbytes, parts())
    assert made == [True]


@pytest.mark.parametrize("error", [RuntimeError, OSError])
def test_a_fill_that_breaks_in_the_middle_leaves_nothing_and_says_so(cache, error):
    def parts():
        yield KILOBYTE
        raise error("broke")

    with pytest.raises(error, match="broke"):
        cache.fill("things", "a", 2 * KILOBYTE.nbytes, parts())
    assert files(cache.root) == []


def test_it_gives_up_as_much_as_is_asked_for_of_what_was_idle_for_longest(cache):
    fill(cache, 8)
    cache.shrink(2500)
    assert held(cache, 8) == [3, 4, 5, 6, 7]
    assert int((cache.root / ".total").read_text()) == size(cache.root) == 5 * 1024
    cache.shrink(10**9)
    assert held(cache, 8) == []
    Cache(cache.root / "absent", 1024).shrink(1)
