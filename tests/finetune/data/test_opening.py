import io
import subprocess
import sys

import pytest
from PIL import Image

from finetune.data.opening import Undecodable, open_upright


def test_a_file_that_is_open_gives_the_image_that_its_path_gives(tmp_path, photograph):
    photograph(1).save(tmp_path / "x.jpg")
    with (tmp_path / "x.jpg").open("rb") as file:
        assert open_upright(file).tobytes() == open_upright(tmp_path / "x.jpg").tobytes()


def test_the_format_is_the_contents_and_not_the_names(tmp_path):
    Image.new("P", (5, 4)).save(tmp_path / "x.jpg", "GIF")
    image = open_upright(tmp_path / "x.jpg")
    assert (image.format, image.mode, image.size) == ("GIF", "RGB", (5, 4))


def test_what_pillow_raised_is_the_cause():
    with pytest.raises(Undecodable) as undecodable:
        open_upright(io.BytesIO(b"no image"))
    assert undecodable.value.__cause__ is not None


def test_checking_loads_no_torch():
    code = "import sys, finetune.data.checking; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
