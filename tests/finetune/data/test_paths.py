import pytest

from finetune.data.paths import Outside, resolve_below


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
