from pathlib import Path

from finetune.data.naming import file_name, image_id


def test_an_id_is_made_of_the_name_from_the_folder_alone():
    names = [file_name(root / "train/ants/1.jpg", root) for root in (Path("/a/b"), Path("/c"))]
    assert names == ["train/ants/1.jpg"] * 2
    # Written out: ids are kept in pages' addresses, and so must stay what they are.
    assert image_id(names[0]) == "img_7440d1bc32b6eca3221ac204"


def test_a_file_elsewhere_is_called_by_how_to_get_there():
    assert file_name(Path("/a/c/1.jpg"), Path("/a/b")) == "../c/1.jpg"
