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
from stagewise.frozen.encoder import embedding


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
        (np.zeros((1, 2, 9000), np.float32), InputError, "one recording is (samples,), or stereo (samples, 2)"),
        (np.zeros(9000, np.uint8), InputError, "float32, int16 or int32, and these are uint8: convert them."),
        (np.full(9000, np.nan, np.float32), DataError, "cannot be embedded: it holds NaN or an infinity at sample 0."),
        (np.full(9000, 1e300), DataError, "it holds NaN or an infinity at sample 0."),
        (np.zeros(5, np.float32), DataError, "cannot be embedded: its 5 samples give no row"),
        (np.zeros((0, 9000), np.float32), InputError, "this (0, 9000) holds nothing"),
        (np.zeros(0, np.float32), InputError, "this (0,) holds nothing"),
        (np.ma.zeros(9000, np.float32), InputError, "give x.filled(0)"),
        (torch.zeros(9000, device="meta"), InputError, "given as a dense one"),
        (torch.zeros(9000).to_sparse(), InputError, "given as a dense one"),
        (torch.zeros(9000, dtype=torch.complex64), InputError, "these are complex64"),
        (Image.new("L", (20, 20)), InputError, "takes sound, and this is an image"),
        ("", InputError, "'' is no path"),
        ("a\0.wav", InputError, "is no path"),
        ("talk.flac", InputError, "talk.flac says its own sample rate: leave sample_rate out."),
    ],
)
def test_what_is_no_sound(encoder, x, error, words):
    with pytest.raises(error, match=re.escape(words)) as raised:
        encoder.embed(x, sample_rate=encoder.sample_rate)
    assert "/tmp" not in str(raised.value)


@pytest.mark.parametrize("rate", [0, -1, True, 16000.5, float("nan"), "16000", 2**31, 10**400])
def test_what_is_no_sample_rate(encoder, rate):
    with pytest.raises(InputError, match="sample_rate is .*: give whole samples per second, such as 16000"):
        encoder.embed(sound(), sample_rate=rate)


def test_a_number_that_cannot_be_printed_is_no_sample_rate(encoder):
    with pytest.raises(InputError, match="give whole samples per second"):
        encoder.embed(sound(), sample_rate=10**5000)


@pytest.mark.parametrize("rate", [44_100.0, np.float32(44_100), np.int64(44_100)])
def test_a_sample_rate_of_any_type_of_number(encoder, rate):
    assert np.array_equal(encoder.embed(sound(), sample_rate=rate), encoder.embed(sound(), sample_rate=44_100))


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "float64"])
def test_bytes_the_other_way_round(encoder, dtype):
    x = sound(dtype=dtype) if dtype.startswith("int") else sound().astype(dtype)
    assert np.array_equal(encoder.embed(x.astype(np.dtype(dtype).newbyteorder(">"))), encoder.embed(x))


def test_tensors_of_other_kinds(encoder):
    x = torch.from_numpy(sound())
    assert np.array_equal(encoder.embed(x.bfloat16()), encoder.embed(x.bfloat16().float()))
    assert np.array_equal(encoder.embed(torch._neg_view(x)), encoder.embed(-x))


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


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_a_transparent_colour_is_white_as_in_its_file(looker, tmp_path, mode):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)).convert(mode)
    image.paste(image.getpixel((0, 0)), (0, 0, 16, 16))
    image.save(tmp_path / "x.png", transparency=image.getpixel((0, 0)))
    expected = looker.embed(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as opened:
        assert np.array_equal(looker.embed(opened), expected)
    image.save(tmp_path / "opaque.png")
    assert not np.array_equal(looker.embed(tmp_path / "opaque.png"), expected)


@pytest.mark.parametrize("compression", ["jpeg", "group4"])
def test_an_image_is_not_compressed_again_as_its_file_was(looker, tmp_path, compression):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 40), np.uint8)
    image = Image.fromarray(pixels).convert("1" if compression == "group4" else "L")
    image.save(tmp_path / "x.tif", compression=compression)
    expected = looker.embed(tmp_path / "x.tif")
    with Image.open(tmp_path / "x.tif") as opened:
        assert np.array_equal(looker.embed(opened), expected)
        assert np.array_equal(looker.embed(opened.convert("L")), expected)


def test_sixteen_bits_with_a_transparent_value(looker, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 65_536, (30, 40), np.uint16)
    Image.fromarray(pixels).save(tmp_path / "x.png", transparency=7)
    with Image.open(tmp_path / "x.png") as opened:
        assert np.array_equal(looker.embed(opened), looker.embed(tmp_path / "x.png"))


@pytest.mark.parametrize(("mode", "like"), [("HSV", "RGB"), ("La", "LA"), ("RGBa", "RGBA")])
def test_modes_that_no_file_has(looker, mode, like):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 4), np.uint8)
    image = Image.fromarray(pixels).convert("RGB" if mode == "HSV" else like).convert(mode)
    assert np.array_equal(looker.embed(image), looker.embed(image.convert(like)))


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (Image.new("L", (0, 20)), "the image cannot be read"),
        (np.zeros((5, 5), np.uint8), "cannot be embedded: its 5 × 5 pixels hold no patch of"),
        (Image.new("F", (30, 30)), "32-bit pixels have no known range"),
        (np.zeros((30, 40, 3)), 'these are float64: convert them if 1 is white, (255 * x).round().astype("uint8").'),
        (np.zeros((2, 30, 40, 3), np.uint8), "(2, 30, 40, 3), and images are taken one after another: [enc"),
        ([np.zeros((30, 40), np.uint8)], "takes one after another, not a list: [encoder.embed(x) for x in …]."),
        (
            np.zeros((30, 40, 7), np.uint8),
            "one image is (height, width) or (height, width, 3), and this is (30, 40, 7)",
        ),
        (np.zeros((0, 40), np.uint8), "and this is (0, 40)."),
    ],
)
def test_what_is_no_image(looker, x, words):
    with pytest.raises((DataError, InputError), match=re.escape(words)) as raised:
        looker.embed(x)
    assert "/tmp" not in str(raised.value)


def test_an_image_that_is_cut_off_or_has_a_sample_rate(looker, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90), np.uint8)).save(tmp_path / "x.png")
    (tmp_path / "x.png").write_bytes((tmp_path / "x.png").read_bytes()[:3000])
    with Image.open(tmp_path / "x.png") as image, pytest.raises(InputError, match="the image cannot be read"):
        looker.embed(image)
    with pytest.raises(InputError, match="sample_rate is of sound"):
        looker.embed(np.zeros((30, 40), np.uint8), sample_rate=16_000)


def test_images_in_colour_are_taken_in_grey_and_said(looker, tmp_path):
    for name, mode in (("a.png", "RGB"), ("b.png", "L"), ("c.png", "RGB")):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8)).convert(mode).save(
            tmp_path / name
        )
    told = []
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    embedding(looker, paths, report=lambda kind, **said: told.append(said.get("text")))
    assert f"2 images in colour, taken in grey: {paths[0]}, {paths[2]}" in told
