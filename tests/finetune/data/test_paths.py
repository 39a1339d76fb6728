import os
import socket
import threading
from pathlib import Path

import pytest

from finetune.data.paths import Irregular, Outside, open_below, resolve_below

CONFINED = pytest.mark.promise("No path and no link leads a job or the server to a file outside its root")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root" / "inner").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "root" / "out").symlink_to(tmp_path / "other")
    (tmp_path / "root" / "within").symlink_to(tmp_path / "root" / "inner")
    (tmp_path / "root" / "loop").symlink_to(tmp_path / "root" / "loop")
    return tmp_path / "root"


def test_a_path_below_the_root_is_found_whether_it_exists_or_not(root):
    assert resolve_below(root, "inner") == root.resolve() / "inner"
    assert resolve_below(root, "inner/./x/y") == root.resolve() / "inner" / "x" / "y"
    assert resolve_below(root, "within") == root.resolve() / "inner"


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../other",
        "inner/../../other",
        "inner/..",
        "/etc",
        "//etc",
        "out",
        "out/x",
        ".",
        "a\x00b",
        "x" * 300,
    ],
)
def test_a_path_that_leaves_the_root_is_outside(root, path):
    with pytest.raises(Outside):
        resolve_below(root, path)


def test_a_loop_of_links_leads_nowhere(root):
    with pytest.raises(Outside):
        resolve_below(root, "loop/x")


def test_a_folder_beside_the_root_with_the_same_beginning_is_outside(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data-secret").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "data-secret")
    with pytest.raises(Outside):
        resolve_below(tmp_path / "data", "link")


@pytest.fixture
def files(root):
    """A file in the root, a secret outside."""
    (root / "inner" / "deep").mkdir()
    (root / "inner" / "deep" / "photo").write_bytes(b"photo")
    (root.parent / "other" / "photo").write_bytes(b"secret")
    (root / "own").symlink_to("inner/deep/photo")
    return root


@pytest.mark.parametrize("name", ["inner/deep/photo", "within/deep/photo", "own", "inner/../own"])
def test_a_file_below_the_root_is_opened_also_through_links_that_stay_inside(files, name):
    with open_below(files / name, files) as file:
        assert file.read() == b"photo"


def test_a_root_may_lie_behind_a_link(files):
    (files.parent / "alias").symlink_to(files)
    with open_below(files.parent / "alias" / "own", files.parent / "alias") as file:
        assert file.read() == b"photo"


@CONFINED
@pytest.mark.parametrize(
    "name", ["out/photo", "../other/photo", ".", "..", "secret", "loop", "chain", "/etc/passwd"]
)
def test_what_leads_out_is_not_opened(files, name):
    (files / "secret").symlink_to(files.parent / "other" / "photo")
    (files / "chain").symlink_to("secret")
    with pytest.raises((Outside, Irregular)):
        open_below(files / name, files)


@pytest.mark.parametrize("name", ["absent", "inner/absent", "inner/deep/photo/x", "absent/photo"])
def test_what_is_not_there_is_an_error_of_the_system(files, name):
    with pytest.raises(OSError, match=r"No such file|Not a directory"):
        open_below(files / name, files)


def test_what_is_no_regular_file_is_not_waited_for(files):
    os.mkfifo(files / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(files, os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{here}/socket")  # a path of sockets is short
        os.close(here)
        for name in ("pipe", "socket", "inner"):
            with pytest.raises(Irregular):
                open_below(files / name, files)


@CONFINED
@pytest.mark.parametrize("where", ["inner", "inner/deep", "inner/deep/photo"])
def test_a_link_that_is_put_there_after_the_look_leads_nowhere(files, monkeypatch, where):
    real, target = os.path.realpath, files / "inner" / "deep" / "photo"
    outside = files.parent / "other"
    (outside / "deep").mkdir()
    (outside / "deep" / "photo").write_bytes(b"secret")

    def look_and_swap(path, **options):
        found = real(path, **options)
        if found == str(target):
            (files / where).rename(files / "gone")
            leads = {"inner": outside, "inner/deep": outside / "deep", "inner/deep/photo": outside / "photo"}
            (files / where).symlink_to(leads[where])
        return found

    monkeypatch.setattr("finetune.data.paths.os.path.realpath", look_and_swap)
    with pytest.raises(Outside):
        open_below(target, files)


@CONFINED
def test_a_link_that_comes_and_goes_never_leads_to_the_secret(files, long, tried):
    times = 20_000 if long else 2000
    target, outside, stopping = files / "inner" / "deep", files.parent / "other", threading.Event()

    def swap():
        while not stopping.is_set():
            target.rename(files / "aside")
            target.symlink_to(outside)
            target.unlink()
            (files / "aside").rename(target)

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen = set()
    try:
        for _ in range(times):
            try:
                with open_below(target / "photo", files) as file:
                    seen.add(file.read())
            except (Outside, OSError):
                seen.add(b"refused")
    finally:
        stopping.set()
        swapper.join()
    tried(times)
    assert seen == {b"photo", b"refused"}


def test_nothing_stays_open_whatever_happens(files):
    os.mkfifo(files / "pipe")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name in ("inner/deep/photo", "out/photo", "absent", "inner/absent", "pipe", "inner/deep/photo/x"):
        for _ in range(5):
            try:
                open_below(files / name, files).close()
            except (Outside, Irregular, OSError):
                continue
    assert len(list(Path("/proc/self/fd").iterdir())) == before
