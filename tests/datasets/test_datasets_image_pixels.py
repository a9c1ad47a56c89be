"""Image files of every kind become the pixels one sees: modes, transparency, turned cameras, sizes."""

from __future__ import annotations

import struct
import subprocess
import sys

import numpy as np
import pytest
from image_examples import picture, save
from image_folder_examples import SMALL, chunk, luma
from PIL import ExifTags, Image

from stagewise.datasets.files import find
from stagewise.datasets.image_folder import ImageFolder
from stagewise.errors import DataError
from stagewise.starting.survey import look


def test_grayscale_is_luma(tmp_path):
    save(tmp_path / "a" / "a.png", picture(0))
    save(tmp_path / "a" / "b.png", picture(0, channels=1))
    data = ImageFolder(root=str(tmp_path), **SMALL)
    assert data.image(0).shape == (40, 48, 1)
    np.testing.assert_allclose(data.image(0)[:, :, 0], luma(picture(0)), atol=0.51)
    np.testing.assert_array_equal(data.image(1), picture(0, channels=1))


def sixteen(pixels):
    return pixels[:, :, 0].astype(np.uint16) * 256 + 77


def palette(pixels):
    return Image.fromarray(pixels).quantize(16)


def transparent_palette():
    image = palette(picture(3))
    image.info["transparency"] = 0
    return image


MODES = {
    "16 bits.png": (Image.fromarray(sixteen(picture(1))), picture(1)[:, :, :1].repeat(3, 2)),
    "16 bits.tif": (Image.fromarray(sixteen(picture(1))), picture(1)[:, :, :1].repeat(3, 2)),
    "gray.png": (Image.fromarray(picture(1)[:, :, 0]), picture(1)[:, :, :1].repeat(3, 2)),
    "black and white.png": (
        Image.fromarray(picture(1)[:, :, 0] > 99),
        255 * (picture(1)[:, :, :1] > 99).astype(np.uint8).repeat(3, 2),
    ),
    "palette.png": (palette(picture(2)), np.array(palette(picture(2)).convert("RGB"))),
    "cmyk.tif": (Image.fromarray(255 - np.dstack([picture(2), np.full((40, 48), 255, np.uint8)]), "CMYK"), picture(2)),
    "opaque.png": (Image.fromarray(np.dstack([picture(2), np.full((40, 48), 255, np.uint8)])), picture(2)),
    "see-through.png": (Image.fromarray(np.dstack([picture(2), np.zeros((40, 48), np.uint8)])), picture(2) * 0 + 255),
}


@pytest.mark.parametrize("name", MODES)
def test_modes(tmp_path, name):
    image, expected = MODES[name]
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a" / name)
    data = ImageFolder(root=str(tmp_path), grayscale=False, **SMALL)
    np.testing.assert_array_equal(data.image(0), expected)
    gray = ImageFolder(root=str(tmp_path), **SMALL)
    np.testing.assert_allclose(gray.image(0)[:, :, 0], luma(expected), atol=0.51)


def test_half_transparent_and_transparent_palette(tmp_path):
    half = np.dstack([picture(3), np.full((40, 48), 128, np.uint8)])
    save(tmp_path / "a" / "half.png", half)
    transparent_palette().save(tmp_path / "a" / "palette.png", transparency=0)
    data = ImageFolder(root=str(tmp_path), grayscale=False, **SMALL)
    np.testing.assert_allclose(data.image(0), picture(3) * (128 / 255) + 255 * (127 / 255), atol=1)
    indices = np.array(palette(picture(3)))
    expected = np.where((indices == 0)[:, :, None], 255, np.array(palette(picture(3)).convert("RGB")))
    np.testing.assert_array_equal(data.image(1), expected)


def test_cmyk_jpeg(tmp_path):
    red = Image.new("CMYK", (48, 40), (0, 255, 255, 0))
    (tmp_path / "a").mkdir()
    red.save(tmp_path / "a" / "a.jpg", quality=95)
    pixels = ImageFolder(root=str(tmp_path), grayscale=False, **SMALL).image(0)
    assert np.abs(pixels.astype(int) - [255, 0, 0]).max() < 12


TURNED = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
@pytest.mark.parametrize("orientation", TURNED)
def test_cameras_that_were_turned(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    blocks = picture(4, 5, 6).repeat(8, 0).repeat(8, 1)  # that JPEG keeps nearly as they are
    options = {"lossless": True} if suffix == "webp" else {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    save(tmp_path / "a" / f"a.{suffix}", blocks, exif=exif, **options)
    data = ImageFolder(root=str(tmp_path), grayscale=False, **SMALL)
    expected = TURNED[orientation](blocks)
    assert data.image(0).shape == expected.shape
    assert np.abs(data.image(0).astype(int) - expected).max() <= (6 if suffix == "jpg" else 0)
    assert data.grids[0].tolist() == [(side - 8) // 4 + 1 for side in expected.shape[:2]]


def test_notes_behind_the_pixels_of_a_png_and_damaged_ones_are_ignored(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    save(tmp_path / "a" / "late.png", picture(0))
    png = (tmp_path / "a" / "late.png").read_bytes()
    (tmp_path / "a" / "late.png").write_bytes(png[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + png[-12:])
    for suffix in ("png", "jpg", "webp"):
        save(tmp_path / "a" / f"odd {suffix}.{suffix}", picture(0), exif=b"Exif\0\0garbage")
    data = ImageFolder(root=str(tmp_path), grayscale=False, **SMALL)
    np.testing.assert_array_equal(data.image(0), picture(0))
    assert [data.image(item).shape for item in (1, 2, 3)] == [(40, 48, 3)] * 3


def tiff(values: np.ndarray, photometric: int = 1, bits: int = 16, order: str = "<") -> bytes:
    """A grey TIFF in one strip, with nothing but what it needs."""
    rows, columns = values.shape
    if bits in (8, 16):
        content = values.astype(f"{order}u{bits // 8}").tobytes()
    elif bits == 1:
        content = np.packbits(values.astype(bool), axis=1).tobytes()
    else:  # twelve bits, two values in three bytes
        pairs = values.astype(np.uint32).reshape(-1, 2)
        packed = pairs[:, 0] << 12 | pairs[:, 1]
        content = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], 1).astype(np.uint8).tobytes()
    tags = [(256, columns), (257, rows), (258, bits), (259, 1), (262, photometric), (273, 200), (277, 1), (278, rows)]
    tags.append((279, len(content)))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    head += b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags)
    return head.ljust(200, b"\0") + content


@pytest.mark.parametrize("order", ["<", ">"])
def test_grey_tiffs_of_16_and_12_bits_and_those_where_white_is_zero(tmp_path, order):
    ramp = np.tile(np.arange(0, 65_536, 1024), (40, 1))
    (tmp_path / "black.tif").write_bytes(tiff(ramp, 1, order=order))
    Image.fromarray((ramp >> 8).astype(np.uint8)).save(tmp_path / "eight.png")
    (tmp_path / "twelve.tif").write_bytes(tiff(ramp >> 4, 1, 12, order))
    (tmp_path / "white.tif").write_bytes(tiff(ramp, 0, order=order))
    if order == ">":  # which Pillow does not know
        with pytest.raises(
            DataError, match=r"(?s)2 of 4 .*twelve.tif: it is not an image of a known.*white.tif: it is"
        ):
            ImageFolder(root=str(tmp_path), **SMALL)
        for name in ("twelve", "white"):
            (tmp_path / f"{name}.tif").unlink()
    data = ImageFolder(root=str(tmp_path), **SMALL)
    kept = "black.tif, twelve.tif, white.tif" if order == "<" else "black.tif"
    what = "3 images" if order == "<" else "1 image"
    assert data.notes == [f"{what} with more than 8 bits, of which the upper 8 are taken: {kept}"]
    expected = (ramp >> 8)[:, :, None]
    for item, right in enumerate((expected, expected, expected, (65_535 - ramp >> 8)[:, :, None])[: len(data)]):
        np.testing.assert_array_equal(data.image(item), right)


@pytest.mark.parametrize("bits", [1, 8])
def test_white_is_zero_of_fewer_bits(tmp_path, bits):
    values = picture(0, channels=1)[:, :, 0] >> (8 - bits)
    (tmp_path / "a.tif").write_bytes(tiff(values, 0, bits))
    shown = 255 - values if bits == 8 else np.where(values, 0, 255)
    np.testing.assert_array_equal(ImageFolder(root=str(tmp_path), **SMALL).image(0)[:, :, 0], shown)


def test_what_is_to_be_known_of_images_is_noted(tmp_path):
    dark = Image.fromarray(np.tile(np.arange(64, dtype=np.uint16) * 65, (40, 1)))
    for name in ("12 in 16.png", "other.tif"):
        dark.save(tmp_path / name)
    first, second = (Image.fromarray(picture(seed)) for seed in (0, 1))
    first.save(tmp_path / "pages.tif", save_all=True, append_images=[second])
    first.save(tmp_path / "moving.webp", save_all=True, append_images=[second], lossless=True)
    save(tmp_path / "notes.jpg", picture(0), exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\3\0\1\0\0\0")
    save(tmp_path / "plain.jpg", picture(0))
    data = ImageFolder(root=str(tmp_path), **SMALL)
    assert data.notes == [
        "2 images with 16 bits of which the upper four are unused, nearly black so: multiply by 16: "
        "12 in 16.png, other.tif",
        "2 images with several frames, of which the first is taken: moving.webp, pages.tif",
        "4 images in colour, taken in grey (data.grayscale = false keeps it): moving.webp, notes.jpg, pages.tif, …",
        "1 image with damaged EXIF, which may be turned: notes.jpg",
    ]
    np.testing.assert_array_equal(data.image(4), luma_of(picture(0)))
    assert look(find(tmp_path), "images").notes == [note for note in data.notes if "colour" not in note]


def luma_of(pixels):
    return np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None]


def test_what_is_transparent_in_16_bits_is_white(tmp_path):
    values = sixteen(picture(1))
    Image.fromarray(values).save(tmp_path / "a.png", transparency=int(values[3, 4]))
    with Image.open(tmp_path / "a.png") as written:
        assert written.info["transparency"] == values[3, 4]
    expected = np.where(values == values[3, 4], 255, values >> 8)
    np.testing.assert_array_equal(ImageFolder(root=str(tmp_path), **SMALL).image(0)[:, :, 0], expected)


def test_pillows_warnings_reach_nobody(tmp_path):
    save(tmp_path / "a.jpg", picture(0), exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\3\0\1\0\0\0")
    code = (
        "import sys, warnings; from stagewise.datasets.image_files import probe, read_pixels\n"
        f"path = {str(tmp_path / 'a.jpg')!r}; print(probe(path).notes); read_pixels(path, True, None, (40, 48))"
    )
    done = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("('with damaged EXIF, which may be turned',)\n", "")


def test_resized_to_their_short_side(tmp_path):
    save(tmp_path / "a.png", picture(0, 40, 50, 1))
    save(tmp_path / "b.png", np.full((90, 30, 1), 77, np.uint8))
    data = ImageFolder(root=str(tmp_path), size=20, **SMALL)
    assert [data.image(item).shape for item in (0, 1)] == [(20, 25, 1), (60, 20, 1)]
    assert data.grids.tolist() == [[4, 5], [14, 4]]
    assert (data.image(1) == 77).all()
    # Halved without aliasing: every result weighs 4 pixels along each side by how near they are.
    weights = np.zeros((20, 40))
    for row in range(20):
        near = np.clip(1 - np.abs(np.arange(40) - (2 * row + 0.5)) / 2, 0, None)
        weights[row] = near / near.sum()
    rows = weights @ picture(0, 40, 50, 1)[:, :, 0].astype(np.float64)
    np.testing.assert_allclose(rows[:, 4:6] @ [0.5, 0.5], rows[:, 4:6].mean(1))  # the weights are right
    columns = np.zeros((25, 50))
    for column in range(25):
        near = np.clip(1 - np.abs(np.arange(50) - (2 * column + 0.5)) / 2, 0, None)
        columns[column] = near / near.sum()
    np.testing.assert_allclose(data.image(0)[:, :, 0], rows @ columns.T, atol=1.1)
    assert ImageFolder(root=str(tmp_path), size=8, **SMALL).grids.tolist() == [[1, 1], [5, 1]]
    save(tmp_path / "c.png", picture(0, 2, 20_000))
    with pytest.raises(DataError, match=r"c.png: it has more than the"):
        ImageFolder(root=str(tmp_path), size=200, **SMALL)
