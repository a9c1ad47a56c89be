"""What `init` cannot make a file of, or write to, is said."""

import pytest
from click.testing import CliRunner
from PIL import Image
from small_files import png, wav

from stagewise.cli.data import init
from stagewise.datasets.files import find
from stagewise.errors import ConfigError, DataError
from stagewise.starting.images import images_recipe
from stagewise.starting.recipe import Machine
from stagewise.starting.survey import look

CPU = Machine(None, 8 << 30, 50_000_000_000, 2)


def recipe(folder):
    return images_recipe(look(find(folder), "images"), gpu=False)


def test_a_line_that_would_be_as_large_as_a_disk(tmp_path):
    for number in range(3):
        png(tmp_path / "in" / f"{number}.png", 96, 96)
    Image.new("L", (60_000, 2)).save(tmp_path / "in" / "line.png")
    with pytest.raises(DataError, match=r"in/line.png: it is too long and narrow to be resized: cut it"):
        recipe(tmp_path / "in")


def test_nothing_to_train_on(tmp_path):
    for number in range(100):
        png(tmp_path / "in" / "test" / f"{number}.png", 32, 32)
    (tmp_path / "in" / "train").mkdir()
    (tmp_path / "in" / "train" / "0.png").write_text("no image")
    with pytest.raises(DataError, match=r"in/train holds no image that can be used: put some there"):
        recipe(tmp_path / "in")


@pytest.mark.parametrize("out", ["folder", "file/x.toml", "file/deep/x.toml"])
def test_a_place_that_is_taken(tmp_path, out):
    wav(tmp_path / "in" / "0.wav", 1.0, 16_000)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    place = tmp_path / out.partition("/")[0]
    with pytest.raises(ConfigError, match=f"{out} cannot be written: {place} is in its place. Name another with"):
        CliRunner().invoke(init, [str(tmp_path / "in"), "--out", str(tmp_path / out)], catch_exceptions=False)
