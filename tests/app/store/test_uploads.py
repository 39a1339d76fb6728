from app.store.uploads import get_upload, list_uploads, record_upload, restore_upload


def test_an_upload_is_noted_with_its_owner(db):
    assert record_upload(db, "birds", "zoo", 2**40) is None
    found = get_upload(db, "birds")
    assert found is not None
    assert (found.owner, found.size) == ("zoo", 2**40)
    assert get_upload(db, "bird") is None


def test_a_new_note_takes_the_place_of_the_one_before_which_can_be_put_back(db):
    record_upload(db, "birds", "zoo", 1)
    first = get_upload(db, "birds")
    assert record_upload(db, "birds", "farm", 2) == first
    restore_upload(db, "birds", first)
    assert get_upload(db, "birds") == first
    restore_upload(db, "birds", None)
    assert get_upload(db, "birds") is None


def test_what_is_for_all_is_noted_as_nobodys(db):
    record_upload(db, "birds", "zoo", 1)
    record_upload(db, "birds", None, 1)
    assert get_upload(db, "birds") is None


def test_uploads_are_listed_by_owner(db):
    for name, owner in (("b", "zoo"), ("a", "zoo"), ("c", "farm"), ("d", "")):
        record_upload(db, name, owner, 1)
    assert [upload.name for upload in list_uploads(db, "zoo")] == ["a", "b"]
    assert [upload.name for upload in list_uploads(db, "")] == ["d"]
    assert [upload.name for upload in list_uploads(db)] == ["a", "b", "c", "d"]
