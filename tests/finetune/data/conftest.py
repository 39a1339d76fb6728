import pytest


@pytest.fixture
def root(tmp_path):
    """A data root with `birds/images/00.png` to `09.png`, empty files."""
    images = tmp_path / "root" / "birds" / "images"
    images.mkdir(parents=True)
    for number in range(10):
        (images / f"{number:02d}.png").touch()
    return tmp_path / "root"
