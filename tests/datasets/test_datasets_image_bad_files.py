"""Image files that cannot be used are found before training, or left out and counted."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from image_examples import picture, save
from image_folder_examples import SMALL, chunk, encoded, fill, luma
from PIL import Image

from stagewise.datasets.files import find
from stagewise.datasets.image_files import CUT, MAX_PIXELS, lacks_a_part
from stagewise.datasets.image_folder import ImageFolder
from stagewise.errors import DataError
from stagewise.starting.survey import look


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
    head, line, advice = str(error.value).splitlines()
    assert head == "1 of 1 image file cannot be used:"
    assert line.startswith(f"  {tmp_path}/{name}: {reason}")
    assert advice.startswith("Repair them or take them away, or set data.bad_items")


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


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_that_was_cut_and_closed(tmp_path, options, mode):
    image = Image.fromarray(picture(0, 60, 70)).convert(mode)
    image.save(tmp_path / "whole.jpg", **options)
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: int(0.7 * len(content))] + b"\xff\xd9")
    assert not lacks_a_part(str(tmp_path / "whole.jpg"))
    assert lacks_a_part(str(tmp_path / "cut.jpg"))
    looked = look(find(tmp_path), "images", inside=True)
    assert looked.names == ["whole.jpg"]
    assert [(bad.key, bad.reason) for bad in looked.bad] == [("cut.jpg", CUT)]
    if not options.get("progressive"):  # of which all is there, but blurred
        data = ImageFolder(root=str(tmp_path), **SMALL)
        with pytest.raises(DataError, match=r"cannot read .*cut.jpg: it is cut short, though it is closed: a part of"):
            data.image(0)
        assert data.image(1).shape == (60, 70, 1)


def test_a_jpeg_that_is_grey_is_whole(tmp_path):
    Image.new("RGB", (50, 50), (128, 128, 128)).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes() + b"more")
    assert not lacks_a_part(str(tmp_path / "a.jpg"))
    assert (ImageFolder(root=str(tmp_path), **SMALL).image(0) == 128).all()


def test_what_pillow_logs_reaches_nobody(tmp_path):
    Image.fromarray(picture(0)).save(tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    tag = content.index(struct.pack("<HHII", 277, 3, 1, 3))
    (tmp_path / "a.tif").write_bytes(content[: tag + 8] + struct.pack("<I", 2048) + content[tag + 12 :])
    code = f"from stagewise.datasets.image_files import probe; print(probe({str(tmp_path / 'a.tif')!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("it is not an image of a known kind, or its header is damaged\n", "")


def test_a_jpeg_that_is_damaged_in_its_middle_is_named_with_the_others(tmp_path, capfd):
    for number in range(3):
        save(tmp_path / "in" / f"{number}.jpg", picture(number), progressive=True)
    content = bytearray((tmp_path / "in" / "1.jpg").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 60] = bytes(60)
    (tmp_path / "in" / "1.jpg").write_bytes(content)
    seen = look(find(tmp_path / "in"), "images", inside=True)
    assert len(seen.names) + len(seen.bad) == 3
    assert all(bad.key == "1.jpg" for bad in seen.bad)
