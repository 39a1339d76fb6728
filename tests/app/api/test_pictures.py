"""The images of datasets, and small pictures of them, over HTTP."""

import hashlib
import io
import os
import shutil

import pytest
from PIL import Image

from app.store.uploads import record_upload

PROMISE = "Another owner's things are not there, by address or by any other name"


@pytest.fixture
def gallery(house):
    """Makes a dataset below the house's data root, which goes with the test: files by their names."""
    made = []

    def make(name, files):
        folder = house.data / name
        made.append(folder)
        for file, content in files.items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder

    yield make
    for folder in made:
        shutil.rmtree(folder)


def encoded(size=(400, 300), colour="red", kind="JPEG", **options):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind, **options)
    return file.getvalue()


def id_of(file):
    return "img_" + hashlib.sha256(file.encode()).hexdigest()[:24]


def opened(response):
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "image/jpeg"
    return Image.open(io.BytesIO(response.content))


def every(api, **params):
    """All images of a list, page by page."""
    after: dict[str, str] = {}
    found = []
    while True:
        page = api.get("/v1/images", params=params | after).json()
        found += page["data"]
        if not page["has_more"]:
            return found
        assert page["last_id"] == page["data"][-1]["id"]
        after = {"after": page["last_id"]}


def test_images_are_listed_in_the_datasets_order_with_ids_made_of_their_names(api):
    found = every(api, dataset="shapes", limit=4)
    assert len(found) == len({image["id"] for image in found}) == 15
    assert found[0] == {
        "object": "dataset.image",
        "id": id_of("train/circle/train-000.png"),
        "file": "train/circle/train-000.png",
        "split": "train",
        "labels": ["circle"],
    }
    order = [(image["split"], image["labels"], image["file"]) for image in found]
    assert order == sorted(order)


def test_a_split_and_a_class_keep_their_own(api):
    found = every(api, dataset="shapes", split="val", **{"class": "square"}, limit=1)
    assert [image["file"] for image in found] == [f"val/square/val-00{n}.png" for n in range(2)]
    past = api.get("/v1/images", params={"dataset": "shapes", "class": "circle", "after": found[0]["id"]})
    assert past.json()["data"] == []  # an image of another class is a place in the list all the same


def test_a_manifests_images_are_called_from_its_folder_and_have_all_their_labels(api, gallery):
    rows = b"path,labels\nin/b.jpg,x|y\nin/a.jpg,\n"
    gallery("tagged", {"in/a.jpg": encoded(), "in/b.jpg": encoded(), "labels.csv": rows})
    found = every(api, dataset="tagged/labels.csv")
    assert [(image["file"], image["labels"]) for image in found] == [
        ("in/a.jpg", []),
        ("in/b.jpg", ["x", "y"]),
    ]
    assert found[0]["id"] == id_of("in/a.jpg")


def test_what_a_list_cannot_be_asked_for_is_refused(api):
    for params, status, code in (
        ({"dataset": "shape"}, 404, "not_found"),
        ({"dataset": "../shapes"}, 404, "not_found"),
        ({"dataset": "sha\x00pes"}, 404, "not_found"),
        ({"dataset": "shapes", "after": "img_0"}, 422, "unknown_cursor"),
        ({"dataset": "shapes", "class": "circel"}, 422, "unknown_class"),
        ({"dataset": "shapes", "split": "test"}, 422, "literal_error"),
        ({"dataset": "shapes", "limit": 101}, 422, "less_than_equal"),
        ({}, 422, "missing"),
    ):
        response = api.get("/v1/images", params=params)
        assert (response.status_code, response.json()["error"]["code"]) == (status, code), params


def test_a_picture_is_small_upright_and_never_enlarged(api, gallery):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    upright = Image.new("RGB", (400, 300), "red")
    upright.paste("blue", (0, 0, 400, 150))
    turned = io.BytesIO()
    upright.save(turned, "JPEG", exif=exif)
    gallery("photos", {"a/x.jpg": turned.getvalue(), "a/y.png": encoded((40, 20), kind="PNG")})
    address = f"/v1/images/{id_of('a/x.jpg')}"
    picture = opened(api.get(address, params={"dataset": "photos", "size": 100}))
    assert picture.size == (75, 100)
    left, right = (picture.convert("RGB").getpixel((x, 50)) for x in (5, 70))
    assert left[0] > 200 > 60 > left[2]
    assert right[2] > 200 > 60 > right[0]
    assert opened(api.get(address, params={"dataset": "photos"})).size == (120, 160)
    small = opened(api.get(f"/v1/images/{id_of('a/y.png')}", params={"dataset": "photos", "size": 1024}))
    assert small.size == (40, 20)


def test_a_picture_has_an_etag_that_changes_with_the_file_and_nothing_a_browser_would_run(api, gallery):
    folder = gallery("one", {"a/x.jpg": encoded()})
    address, params = f"/v1/images/{id_of('a/x.jpg')}", {"dataset": "one"}
    first = api.get(address, params=params)
    assert first.headers["Cache-Control"].startswith("private, max-age=")
    assert first.headers["X-Content-Type-Options"] == "nosniff"
    assert first.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    known = {"If-None-Match": first.headers["ETag"]}
    same = api.get(address, params=params, headers=known)
    assert (same.status_code, same.content) == (304, b"")
    assert api.get(address, params=params | {"size": 64}, headers=known).status_code == 200
    (folder / "a/x.jpg").write_bytes(encoded(colour="blue"))
    other = api.get(address, params=params, headers=known)
    assert other.headers["ETag"] != first.headers["ETag"]
    assert opened(other).convert("RGB").getpixel((5, 5))[2] > 200


def test_a_picture_that_was_drawn_is_kept_for_the_next_one_who_asks(api, gallery, house):
    folder = gallery("kept", {"a/x.jpg": encoded()})
    stat = (folder / "a/x.jpg").stat()
    address, params = f"/v1/images/{id_of('a/x.jpg')}", {"dataset": "kept"}
    first = api.get(address, params=params)
    # Bytes that are no image now, at the same size and time: who decodes anew finds none.
    (folder / "a/x.jpg").write_bytes(b"\x00" * stat.st_size)
    os.utime(folder / "a/x.jpg", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    again = api.get(address, params=params)
    assert (again.status_code, again.content) == (200, first.content)
    assert (house.root / "home" / "cache" / "pictures").is_dir()


def test_what_cannot_be_read_is_refused_with_the_reason(api, gallery):
    whole = encoded((600, 600))
    gallery(
        "broken",
        {
            "a/cut.jpg": whole[: len(whole) // 2],
            "a/text.jpg": b"no image at all",
            "a/empty.jpg": b"",
            "a/tiff.jpg": encoded(kind="TIFF"),
            "a/vast.png": encoded((10_001, 10_000), kind="PNG", compress_level=1),
        },
    )
    for name, words in (
        ("cut", "truncated"),
        ("text", "no image of a format that is read"),
        ("empty", "no image"),
        ("tiff", "no image of a format that is read"),
        ("vast", "10001 × 10000 pixels"),
    ):
        suffix = "png" if name == "vast" else "jpg"
        response = api.get(f"/v1/images/{id_of(f'a/{name}.{suffix}')}", params={"dataset": "broken"})
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (422, "image_invalid"), name
        assert error["message"].startswith("the image cannot be shown: ")
        assert words in error["message"]


def test_what_is_not_there_is_not_found(api, gallery):
    folder = gallery("going", {"a/x.jpg": encoded(), "a/y.jpg": encoded()})
    for params, image, param in (
        ({"dataset": "going"}, id_of("a/z.jpg"), "image_id"),
        ({"dataset": "gone"}, id_of("a/x.jpg"), "dataset"),
    ):
        response = api.get(f"/v1/images/{image}", params=params)
        assert (response.status_code, response.json()["error"]["param"]) == (404, param)
    (folder / "a/x.jpg").unlink()
    assert api.get(f"/v1/images/{id_of('a/x.jpg')}", params={"dataset": "going"}).status_code == 404
    for size in ("31", "1025", "x"):
        params = {"dataset": "going", "size": size}
        assert api.get(f"/v1/images/{id_of('a/y.jpg')}", params=params).status_code == 422


def test_a_link_that_is_put_in_an_images_place_shows_nothing_outside(api, gallery, house):
    secret = house.root / "secret.jpg"
    secret.write_bytes(encoded())
    folder = gallery("linked", {"a/x.jpg": encoded(), "a/y.jpg": encoded()})
    listed = every(api, dataset="linked")
    (folder / "a/x.jpg").unlink()
    (folder / "a/x.jpg").symlink_to(secret)
    (folder / "a/y.jpg").unlink()
    os.mkfifo(folder / "a/y.jpg")
    for image, words in zip(listed, ("leads out of the data root", "no regular file"), strict=True):
        response = api.get(f"/v1/images/{image['id']}", params={"dataset": "linked"})
        assert response.status_code == 422
        assert words in response.json()["error"]["message"]


@pytest.mark.promise(PROMISE)
def test_another_owners_images_are_not_there(holder, owner, guarded):
    name, file = owner("mine"), "train/a/x.jpg"
    (guarded.data / name / "train" / "a").mkdir(parents=True)
    (guarded.data / name / file).write_bytes(encoded())
    zoo, farm = holder("submit", owner("zoo")), holder("admin")
    record_upload(guarded.db, name, owner("zoo"), 10)
    stranger = holder("submit", owner("farm"))
    for path in ("/v1/images", f"/v1/images/{id_of(file)}"):
        for dataset in (name, f"./{name}"):
            assert zoo.http.get(path, params={"dataset": dataset}).status_code == 200
            assert farm.http.get(path, params={"dataset": dataset}).status_code == 200
            refused = stranger.http.get(path, params={"dataset": dataset})
            assert refused.status_code == 404
            assert refused.json()["error"]["message"].startswith(f"there is no dataset '{dataset}'")
