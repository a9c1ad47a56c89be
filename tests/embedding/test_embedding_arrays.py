"""Samples and pixels that a program holds give the rows that their files give, to the last bit."""

import re

import numpy as np
import pytest
import soundfile
import tiny_images
import torch
from PIL import Image

import stagewise
from stagewise.errors import DataError, InputError


@pytest.fixture(scope="module")
def encoder(finished):
    encoder = stagewise.open(finished / "run").encoder("context")
    encoder.facts["reads"] |= {"kind": "audio"}  # the data of the tests is read in a way of its own
    return encoder


@pytest.fixture(scope="module")
def looker(tmp_path_factory):
    """An encoder of grey images."""
    folder = tmp_path_factory.mktemp("images")
    text = tiny_images.TOML.partition("[[probe]]")[0]
    stagewise.run(tiny_images.write_pipeline(folder, text), run=folder / "run", set={"defaults.train.epochs": 0})
    encoder = stagewise.open(folder / "run").encoder("two")
    encoder.facts["reads"] |= {"kind": "image"}
    return encoder


def sound(channels=1, samples=9000, dtype="float32"):
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (samples, channels)).squeeze()
    return x.astype("float32") if dtype == "float32" else (x * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize(("dtype", "subtype"), [("float32", "FLOAT"), ("int16", "PCM_16"), ("int32", "PCM_32")])
@pytest.mark.parametrize(("channels", "rate"), [(1, 16_000), (2, 16_000), (1, 44_100)])
def test_samples(encoder, tmp_path, channels, rate, dtype, subtype):
    x, path = sound(channels, dtype=dtype), tmp_path / "x.wav"
    soundfile.write(path, x, rate, subtype)
    expected = encoder.embed(path)
    for given in (x, x.T, torch.from_numpy(x)):
        assert np.array_equal(encoder.embed(given, sample_rate=rate), expected)
    if rate == encoder.sample_rate:
        assert np.array_equal(encoder.embed(x), expected)
    assert np.array_equal(encoder.embed(x, pool="mean", sample_rate=rate), encoder.embed(path, pool="mean"))


def test_doubles_are_rounded_as_a_file_of_floats_would(encoder):
    x = sound()
    assert np.array_equal(encoder.embed(x.astype(np.float64)), encoder.embed(x))


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (np.zeros((1, 2, 9000), np.float32), InputError, "one recording is (samples,) or (channels, samples)"),
        (np.zeros(9000, np.uint8), InputError, "float32, int16 or int32, and these are uint8: convert them."),
        (np.full(9000, np.nan, np.float32), DataError, "NaN"),
        (np.zeros(5, np.float32), DataError, "its 5 samples give no row"),
        (Image.new("L", (20, 20)), InputError, "takes sound, and this is an image"),
    ],
)
def test_what_is_no_sound(encoder, x, error, words):
    with pytest.raises(error, match=re.escape(words)):
        encoder.embed(x)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "P", "CMYK"])
def test_images(looker, tmp_path, mode):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).convert(mode)
    image.save(tmp_path / "x.tiff")
    expected = looker.embed(tmp_path / "x.tiff")
    assert np.array_equal(looker.embed(image), expected)
    if mode in ("L", "RGB", "RGBA"):
        pixels = np.array(image)
        assert np.array_equal(looker.embed(pixels), expected)
        assert np.array_equal(looker.embed(torch.from_numpy(pixels)), expected)
        assert np.array_equal(looker.embed(pixels[None] if mode == "L" else np.moveaxis(pixels, 2, 0)), expected)


def test_an_image_is_turned_as_its_file_says(looker, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40), np.uint8)).save(tmp_path / "x.png", exif=exif)
    with Image.open(tmp_path / "x.png") as image:
        assert np.array_equal(looker.embed(image), looker.embed(tmp_path / "x.png"))


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((30, 40, 3)), 'these are float64: convert them if 1 is white, (255 * x).round().astype("uint8").'),
        (np.zeros((2, 30, 40, 3), np.uint8), "one image is (height, width) or (height, width, 3), and this is (2, 30,"),
        (np.zeros((0, 40), np.uint8), "and this is (0, 40)."),
    ],
)
def test_what_is_no_image(looker, x, words):
    with pytest.raises(InputError, match=re.escape(words)):
        looker.embed(x)
