"""Datasets: what they hold, what is wrong with them, and sending one."""

import zipfile

from playwright.sync_api import expect


def test_upload_with_a_damaged_image_names_it(site, open_page, tmp_path, photograph, faults):
    faults.allowed += ["422"]  # of the damaged one there is no picture
    archive = tmp_path / "zoo.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for number, name in enumerate(("ants", "bees")):
            for index in range(4):
                picture = tmp_path / f"{name}{index}.jpg"
                photograph(10 * number + index).save(picture, quality=90)
                zipped.write(picture, f"zoo/{name}/{index}.jpg")
        zipped.writestr("zoo/bees/broken.jpg", picture.read_bytes()[:300])
    page = open_page(f"{site.url}/datasets")
    page.locator("#dataset-file").set_input_files(archive)
    expect(page.get_by_role("heading", name="zoo")).to_be_visible(timeout=30_000)
    expect(page.locator(".notice.error code")).to_have_text(["bees/broken.jpg"], timeout=30_000)
    expect(page.get_by_text("9 images in 2 classes")).to_be_visible()


def test_archive_that_is_none_is_refused_in_the_api_s_words(site, open_page, tmp_path, faults):
    faults.allowed += ["422", "400"]
    (tmp_path / "notes.zip").write_text("no archive")
    page = open_page(f"{site.url}/datasets")
    page.locator("#dataset-file").set_input_files(tmp_path / "notes.zip")
    expect(page.locator("#upload-problem")).to_contain_text("zip archive")
    expect(page).to_have_url(f"{site.url}/datasets")


def test_name_that_is_taken_is_asked_about_before_anything_is_sent(site, open_page, tmp_path):
    (tmp_path / "shapes.zip").write_bytes(b"PK")
    page = open_page(f"{site.url}/datasets")
    page.locator("#dataset-file").set_input_files(tmp_path / "shapes.zip")
    expect(page.locator("#upload-problem")).to_contain_text("There is a dataset shapes already")


def test_dataset_shows_its_classes_splits_and_images(site, open_page):
    page = open_page(f"{site.url}/datasets/shapes")
    expect(page.get_by_text("54 images in 3 classes")).to_be_visible()
    expect(page.locator(".bars").get_by_text("12 + 6").first).to_be_visible()
    pictures = page.locator(".thumbs img")
    expect(pictures).to_have_count(24)
    page.get_by_label("Class").select_option("circle")
    expect(pictures).to_have_count(18)
    page.wait_for_function(
        "() => [...document.querySelectorAll('.thumbs img')].some((i) => i.naturalWidth > 0)"
    )
