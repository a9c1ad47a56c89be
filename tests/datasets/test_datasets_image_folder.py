"""Any folder of images: odd files, which part each belongs to, labels, and the real photographs."""

from __future__ import annotations

import io
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_examples import naive_patches, picture, save
from PIL import ExifTags, Image

from stagewise.datasets.image_files import MAX_PIXELS
from stagewise.datasets.image_folder import ImageFolder
from stagewise.errors import ConfigError, DataError

SMALL = {"patch": 8, "stride": 4, "crop": 16}
FILES = ["cat/a.png", "cat/deep/b.PNG", "cat/c.bmp", "dog/d.tif", "dog/e.tiff", "dog/f.png", "g.png"]


def fill(root: Path, files=FILES) -> Path:
    for number, name in enumerate(files):
        save(root / name, picture(number, 20 + number, 24))
    return root


def test_finds_every_kind_at_every_depth(tmp_path):
    root = fill(tmp_path)
    (root / "notes.txt").write_text("no image")
    (root / "cat" / "._a.png").write_text("what macOS leaves behind")
    for name, suffix in (("h", "webp"), ("i", "jpg"), ("j", "JPEG")):
        save(root / "dog" / f"{name}.{suffix}", picture(7))
    data = ImageFolder(root=str(root), grayscale=False, **SMALL)
    assert list(data.keys) == sorted([*FILES, "dog/h.webp", "dog/i.jpg", "dog/j.JPEG"])
    for item, key in enumerate(data.keys):
        pixels = data.image(item)
        if key in FILES:
            np.testing.assert_array_equal(pixels, picture(FILES.index(key), 20 + FILES.index(key), 24))
        assert data.grids[item].tolist() == [(pixels.shape[0] - 8) // 4 + 1, (pixels.shape[1] - 8) // 4 + 1]
        expected = naive_patches(pixels, 8, 4, data.mean, data.std)
        np.testing.assert_allclose(data.read(item, 0, int(data.lengths[item])), expected, atol=2e-6)
    classes = dict(zip(data.keys, data.item_labels("class").tolist(), strict=True))
    assert data.label_classes("class") == ["cat", "dog"]
    assert (classes["cat/deep/b.PNG"], classes["dog/f.png"], classes["g.png"]) == (0, 1, -1)


def luma(pixels):
    """Gray as ITU-R 601-2 weighs it."""
    return pixels.astype(np.float64) @ [0.299, 0.587, 0.114]


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


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_notes_behind_the_pixels_of_a_png_and_damaged_ones_are_ignored(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    save(tmp_path / "a" / "late.png", picture(0))
    png = (tmp_path / "a" / "late.png").read_bytes()
    (tmp_path / "a" / "late.png").write_bytes(png[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + png[-12:])
    for suffix in ("png", "jpg", "webp"):
        save(tmp_path / "a" / f"odd.{suffix}", picture(0), exif=b"Exif\0\0garbage")
    data = ImageFolder(root=str(tmp_path), grayscale=False, **SMALL)
    np.testing.assert_array_equal(data.image(0), picture(0))
    assert [data.image(item).shape for item in (1, 2, 3)] == [(40, 48, 3)] * 3


def encoded(kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(0, 64, 64)).save(buffer, kind, **options)
    return buffer.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that says how large it is."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, content) for kind, content in parts)


BAD = {
    "a empty.png": (b"", "the file is empty"),
    "b text.png": (b"not an image", "it is not an image of a known kind, or its header is damaged"),
    "c gif.png": (encoded("GIF"), "it is not an image of a known kind, or its header is damaged"),
    "d cut.jpg": (encoded("JPEG")[:-500], "the decoder says: image file is truncated"),
    "e cut.png": (encoded("PNG")[:-500], "the decoder says: image file is truncated"),
    "f cut.webp": (encoded("WEBP")[:-500], "the decoder says: "),
    "g cut.tif": (encoded("TIFF")[:-500], "the decoder says: "),
    "h cut.bmp": (encoded("BMP")[:-500], "the decoder says: image file is truncated"),
    "i header.png": (encoded("PNG")[:20], "the decoder says: Truncated File Read"),
    "j bomb.png": (bomb(40_000), f"it has more than the {MAX_PIXELS:,} pixels that are decoded: shrink it"),
    "l bomb that is cut.png": (
        bomb(10_000)[:-12],
        f"it has more than the {MAX_PIXELS:,} pixels that are decoded: shrink it",
    ),
    "k of which Pillow only warns.png": (
        bomb(10_000),
        f"it has more than the {MAX_PIXELS:,} pixels that are decoded: shrink it",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_found_before_training(tmp_path, name):
    content, reason = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        ImageFolder(root=str(tmp_path), **SMALL)
    head, line, remedy = str(error.value).splitlines()
    assert head == "1 of 1 image files cannot be used:"
    assert line.startswith(f"  {tmp_path}/{name}: {reason}")
    assert remedy.startswith("Repair them or take them away, or set data.bad_items")


def test_pixels_that_cannot_be_used(tmp_path):
    Image.fromarray(np.zeros((40, 40), np.float32)).save(tmp_path / "a.tif")
    Image.fromarray(np.zeros((40, 40), np.int32)).save(tmp_path / "b.tif")
    Image.new("LAB", (40, 40)).save(tmp_path / "c.tif")
    save(tmp_path / "d.png", picture(0, 1, 1))
    save(tmp_path / "e.png", picture(0, 7, 90))
    (tmp_path / "f.png").mkdir()
    os.mkfifo(tmp_path / "g.png")
    with pytest.raises(DataError) as error:
        ImageFolder(root=str(tmp_path), **SMALL)
    small = "hold no row of 8 × 8: lower data.patch, or set data.size to enlarge it"
    assert str(error.value).splitlines()[:-1] == [
        "6 of 6 image files cannot be used:",
        f"  {tmp_path}/a.tif: 32-bit pixels have no known range: save it with 8 or 16 bits per channel",
        f"  {tmp_path}/b.tif: 32-bit pixels have no known range: save it with 8 or 16 bits per channel",
        f"  {tmp_path}/c.tif: its colours are CIELAB: save it as RGB",
        f"  {tmp_path}/d.png: 1 × 1 pixels {small}",
        f"  {tmp_path}/e.png: 7 × 90 pixels {small}",
        f"  {tmp_path}/g.png: it is not a regular file",
    ]


def test_one_in_a_hundred_is_skipped_and_counted(tmp_path):
    for number in range(99):
        save(tmp_path / f"{number:02d}.bmp", picture(number, 16, 16))
    (tmp_path / "42.png").write_bytes(encoded("PNG")[:-500])
    data = ImageFolder(root=str(tmp_path), bad_items="skip", **SMALL)
    assert len(data) == 99
    assert [(bad.key, bad.path) for bad in data.bad] == [("42.png", f"{tmp_path}/42.png")]
    np.testing.assert_array_equal(data.image(43)[:, :, 0], np.rint(luma(picture(43, 16, 16))))
    (tmp_path / "43.png").write_text("text")
    with pytest.raises(DataError, match=r"(?s)2 of 101 image files.*more than the 1% that data.bad_items"):
        ImageFolder(root=str(tmp_path), bad_items="skip", **SMALL)


def test_a_whole_file_with_more_behind_its_end_is_good(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG") + b"\0" * 100)
    assert ImageFolder(root=str(tmp_path), **SMALL).image(0).shape == (64, 64, 1)


def test_damage_after_the_scan_names_the_file(tmp_path):
    fill(tmp_path)
    data = ImageFolder(root=str(tmp_path), **SMALL)
    (tmp_path / "cat/a.png").write_text("text")
    save(tmp_path / "cat/c.bmp", picture(0, 64, 64))
    (tmp_path / "g.png").unlink()
    with pytest.raises(DataError, match=r"cannot read .*cat/a.png: it is not an image of a known kind.*Replace the"):
        data.read(0, 0, 1)
    with pytest.raises(DataError, match=r"cat/c.bmp has changed since it was looked at. Replace"):
        data.augmented(1, 0)
    with pytest.raises(DataError, match=r"cannot read .*g.png: No such file or directory"):
        data.image(6)


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


def test_a_part_of_every_class_is_for_testing(tmp_path):
    root = fill(tmp_path, [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(10)])
    data = ImageFolder(root=str(root), test_fraction=0.3, **SMALL)
    assert [data.item_labels("class")[data.split("test")].tolist().count(number) for number in (0, 1)] == [3, 3]
    assert sorted([*data.split("train"), *data.split("test")]) == list(range(20))
    assert data.pool().tolist() == data.split("train").tolist()
    again = ImageFolder(root=str(shutil.copytree(root, tmp_path / "again")), test_fraction=0.3, **SMALL)
    assert again.split("test").tolist() == data.split("test").tolist()


def test_folders_of_their_own_for_testing_and_without_labels(tmp_path):
    root, test, rest = tmp_path / "train", tmp_path / "eval", tmp_path / "rest"
    fill(root, ["cat/a.png", "dog/a.png", "dog/test/a.png"])
    fill(test, ["dog/a.png"])
    fill(rest, ["dog/a.png", "z.png"])
    data = ImageFolder(root=str(root), test=str(test), unlabelled=str(rest), views=2, **SMALL)
    names = [
        "cat/a.png",
        "dog/a.png",
        "dog/test/a.png",
        "test//dog/a.png",
        "unlabelled//dog/a.png",
        "unlabelled//z.png",
    ]
    assert list(data.keys) == [key for name in names for key in (name, f"{name}#flip")]
    assert data.item_labels("class").tolist() == [0, 0, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1]
    assert data.split("train").tolist() == [0, 2, 4]
    assert data.split("test").tolist() == [6]
    assert data.pool().tolist() == [0, 2, 4, 8, 10]
    np.testing.assert_array_equal(data.image(6), data.image(0))
    np.testing.assert_array_equal(data.image(11), data.image(2)[:, ::-1])

    fill(test, ["dog/a.png", "owl/b.png"])
    with pytest.raises(DataError, match=r"eval has images of the class 'owl', of which data.root has none \(1 such"):
        ImageFolder(root=str(root), test=str(test), **SMALL)
    without = ImageFolder(root=str(root), unlabelled=str(rest), test_fraction=0.5, **SMALL)
    assert not {3, 4} & {*without.split("train").tolist(), *without.split("test").tolist()}
    assert {3, 4} <= set(without.pool().tolist())


def test_lists_choose_the_images(tmp_path):
    root = fill(tmp_path / "images")
    fill(tmp_path / "rest", ["z.png"])
    (tmp_path / "train.txt").write_text("dog/d\ncat/deep/b.PNG\n")
    (tmp_path / "test.txt").write_text("g.png\n")
    (root / "h.png").write_text("a bad one that is not listed")
    splits = {name: str(tmp_path / f"{name}.txt") for name in ("train", "test")}
    data = ImageFolder(root=str(root), splits=splits, unlabelled=str(tmp_path / "rest"), **SMALL)
    assert list(data.keys) == ["cat/deep/b.PNG", "dog/d.tif", "g.png", "unlabelled//z.png"]
    assert data.split("train").tolist() == [0, 1]
    assert data.split("test").tolist() == [2]
    assert data.pool().tolist() == [0, 1, 3]
    (tmp_path / "test.txt").write_text("x.png\n")
    with pytest.raises(DataError, match=r"test.txt:1: x.png is not in the data set"):
        ImageFolder(root=str(root), splits=splits, **SMALL)


def test_arguments_that_do_not_fit(tmp_path):
    root = fill(tmp_path / "train")
    (tmp_path / "none").mkdir()
    splits = {"train": "x", "test": "y"}
    with pytest.raises(ConfigError, match=r"data.test and data.splits both say what is for testing"):
        ImageFolder(root=str(root), test=str(tmp_path), splits=splits)
    for arguments in ({"test": str(root)}, {"unlabelled": str(root / "cat")}, {"test": str(tmp_path)}):
        with pytest.raises(ConfigError, match=r"lies in data.* name folders that lie apart"):
            ImageFolder(root=str(root), **arguments)
    with pytest.raises(ConfigError, match=r"data.size is 0: set it to a whole number of pixels"):
        ImageFolder(root=str(root), size=0)
    with pytest.raises(ConfigError, match=r"data.test_fraction is 1"):
        ImageFolder(root=str(root), test_fraction=1)
    with pytest.raises(ConfigError, match=r"data.bad_items is 'ignore'"):
        ImageFolder(root=str(root), bad_items="ignore")
    with pytest.raises(DataError, match=r"no image files \(.png, .*\) below .*--set data.root=FOLDER"):
        ImageFolder(root=str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"cannot read .*nowhere \(No such file or directory\): correct data.test"):
        ImageFolder(root=str(root), test=str(tmp_path / "nowhere"))
    assert ImageFolder.expected(root="x") is None


def test_fingerprint_follows_what_changes_training(tmp_path):
    root = fill(tmp_path / "root")
    rest = fill(tmp_path / "rest", ["z.png"])
    base = ImageFolder(root=str(root), **SMALL).fingerprint()
    elsewhere = shutil.copytree(root, tmp_path / "elsewhere")
    assert ImageFolder(root=str(elsewhere), **SMALL).fingerprint() == base
    assert ImageFolder(root=str(root), bad_items="skip", **SMALL).fingerprint() == base
    for change in ({"size": 20}, {"test_fraction": 0.6}, {"unlabelled": str(rest)}, {"flip": False}, {"views": 2}):
        assert ImageFolder(root=str(root), **SMALL, **change).fingerprint() != base
    unlabelled = ImageFolder(root=str(root), unlabelled=str(rest), test_fraction=0, **SMALL)
    tested = ImageFolder(root=str(root), test=str(rest), **SMALL)
    assert unlabelled.fingerprint() != tested.fingerprint()
    save(elsewhere / "cat/a.png", picture(77, 20, 24))  # as large, other bytes
    (elsewhere / "cat/a.png").write_bytes((elsewhere / "cat/a.png").read_bytes() + b"\0")
    assert ImageFolder(root=str(elsewhere), **SMALL).fingerprint() != base


def test_names_of_every_kind_and_nothing_is_written(tmp_path):
    names = ["with space.png", "émoji 🎺.png", "x" * 250 + ".png", "Case.png", "case.png", "a#flip.png", "test:b.png"]
    fill(tmp_path, names)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    data = ImageFolder(root=str(tmp_path), views=2, **SMALL)
    assert list(data.keys)[::2] == sorted(names)
    data.augmented(3, 0)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    (tmp_path / "two\nlines.png").write_bytes(encoded("PNG"))
    with pytest.raises(DataError, match=r"two\\nlines.png: its name holds a line break: rename it"):
        ImageFolder(root=str(tmp_path), **SMALL)


def test_the_real_photographs(shared):
    root = shared / "clothing"
    data = ImageFolder(root=str(root / "train"), test=str(root / "test"), unlabelled=str(root / "validation"))
    assert (len(data), len(data.split("train")), len(data.split("test")), len(data.pool())) == (3781, 3068, 372, 3409)
    assert len(data.label_classes("class")) == 10
    counts = np.bincount(data.item_labels("class")[data.split("test")])
    assert counts.tolist() == [15, 12, 72, 38, 42, 26, 73, 30, 12, 52]
    assert (data.grids == 11).all()
    crops = np.stack([data.augmented(item, 0) for item in data.pool()[::100].tolist()])
    assert crops.shape == (35, 1, 49, 16, 16)
    assert 0.5 < crops.std() < 2
