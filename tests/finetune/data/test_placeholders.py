import io

import pytest
from PIL import Image, ImageDraw

from finetune.data.facts import examine
from finetune.data.placeholders import find_placeholders


def notice(kind="GIF"):
    image = Image.new("RGB", (300, 300), "white")
    ImageDraw.Draw(image).text((60, 140), "this image could not be found", fill="grey")
    content = io.BytesIO()
    image.save(content, kind)
    return content.getvalue()


@pytest.fixture
def found(tmp_path):
    """What is found among images and contents of files."""

    def names(images, contents=()):
        for number, image in enumerate(images):
            image.save(tmp_path / f"{number:03}.png")
        for number, content in enumerate(contents):
            (tmp_path / f"notice-{number}").write_bytes(content)
        paths = sorted(tmp_path.iterdir())
        return [
            path.name
            for path in find_placeholders(paths, {path: examine(path, path.parent) for path in paths})
        ]

    return names


@pytest.mark.parametrize("kind", ["GIF", "JPEG", "PNG"])
def test_a_notice_among_photographs_is_found(found, photograph, kind):
    assert found(map(photograph, range(20)), [notice(kind)]) == ["notice-0"]


def test_a_notice_is_found_as_often_as_it_stands_there(found, photograph):
    assert found(map(photograph, range(20)), [notice()] * 9) == [f"notice-{n}" for n in range(9)]


def test_a_dark_photograph_is_none(found, photograph):
    dark = photograph(99).point(lambda level: level // 3)
    assert found([*map(photograph, range(20)), dark]) == []


def test_a_photograph_on_white_is_none(found, photograph):
    studio = Image.new("RGB", (400, 300), "white")
    studio.paste(photograph(99), (120, 90))
    assert found([*map(photograph, range(20)), studio]) == []


def test_drawings_on_plain_ground_are_none(found):
    drawings = []
    for number in range(30):
        image = Image.new("RGB", (64, 64), "white")
        ImageDraw.Draw(image).ellipse((number, 10, number + 10 + number // 2, 30), fill="black")
        drawings.append(image)
    assert found(drawings, [notice()]) == []


def test_among_images_that_are_often_plain_none_is_found(found, photograph):
    drawings = [Image.new("RGB", (64, 64), (number, 0, 0)) for number in range(3)]
    assert found([*map(photograph, range(20)), *drawings]) == []


def test_among_a_few_images_nothing_is_unlike_the_others(found, photograph):
    assert found(map(photograph, range(6)), [notice()]) == []


def test_among_no_images_there_is_none(found):
    assert found([], [b"no image"]) == []
