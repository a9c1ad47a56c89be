"""STL-10 from a tiny folder in its format; nothing is downloaded."""

from __future__ import annotations

import copy
import shutil

import numpy as np
import pytest
from image_examples import naive_patches, picture

from stagewise.datasets import stl10
from stagewise.datasets.stl10 import STL10
from stagewise.errors import ConfigError, DataError

COUNTS = {"train": 5, "test": 4, "unlabeled": 7}
CLASSES = {"train": [1, 10, 3, 3, 2], "test": [10, 1, 4, 4]}


def pixels(name: str, number: int) -> np.ndarray:
    return picture(100 * list(COUNTS).index(name) + number, 96, 96)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder with as few images as COUNTS says, in place of the published numbers."""
    monkeypatch.setattr(stl10, "COUNTS", COUNTS)
    monkeypatch.setattr(stl10, "_download", lambda root: pytest.fail("tried to download"))
    folder = tmp_path / "data" / "stl10_binary"
    folder.mkdir(parents=True)
    for name, count in COUNTS.items():
        # As its README says: the red, the green and the blue plane, each column after column.
        planes = [pixels(name, number)[:, :, c].T for number in range(count) for c in range(3)]
        (folder / f"{name}_X.bin").write_bytes(b"".join(plane.tobytes() for plane in planes))
    for name, classes in CLASSES.items():
        (folder / f"{name}_y.bin").write_bytes(bytes(classes))
    return folder.parent


def test_items_parts_and_labels(root):
    data = STL10(root=str(root))
    assert len(data) == 16
    assert (data.keys[0], data.keys[5], data.keys[15]) == ("train/000000", "test/000000", "unlabeled/000006")
    assert data.split("train").tolist() == [0, 1, 2, 3, 4]
    assert data.split("test").tolist() == [5, 6, 7, 8]
    assert data.pool().tolist() == [9, 10, 11, 12, 13, 14, 15]
    assert data.item_labels("class").tolist() == [0, 9, 2, 2, 1, 9, 0, 3, 3, *[-1] * 7]
    assert data.label_classes("class") == [
        *("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
    ]
    assert (data.row_shape, data.crop, set(data.lengths.tolist())) == ((1, 16, 16), (7, 7), {121})
    assert (data.mean, data.std) == (0.4120, 0.2570)


def test_pixels_are_read_where_they_lie(root):
    data = STL10(root=str(root), grayscale=False, views=2)
    items = [(name, number) for name, count in COUNTS.items() for number in range(count)]
    for item, place in enumerate(items):
        np.testing.assert_array_equal(data.image(2 * item), pixels(*place))
        np.testing.assert_array_equal(data.image(2 * item + 1), pixels(*place)[:, ::-1])
    expected = naive_patches(pixels("test", 3), 16, 8, data.mean, data.std)
    np.testing.assert_allclose(data.read(16, 0, 121), expected, atol=2e-6)
    assert data.pool().tolist() == list(range(18, 32, 2))
    gray = STL10(root=str(root)).image(8)[:, :, 0]
    np.testing.assert_allclose(gray, pixels("test", 3) @ [0.299, 0.587, 0.114], atol=0.51)
    centre = pixels("train", 0)[16:80, 16:80]
    rows = data.read(0, 0, 121)[:, data.centre(0)]
    np.testing.assert_allclose(rows, naive_patches(centre, 16, 8, data.mean, data.std), atol=2e-6)


def test_it_is_as_torchvision_reads_it(root, monkeypatch):
    from torchvision.datasets import STL10 as Published  # noqa: N811

    monkeypatch.setattr(Published, "_check_integrity", lambda self: True)
    data = STL10(root=str(root), grayscale=False)
    for split, items in (("train", data.split("train")), ("test", data.split("test")), ("unlabeled", data.pool())):
        published = Published(str(root), split=split)
        if split == "train":
            (root / "stl10_binary/fold_indices.txt").write_text("")
        for item, (image, label) in zip(items.tolist(), published, strict=True):
            np.testing.assert_array_equal(data.image(item), np.array(image))
            assert data.item_labels("class")[item] == label


def test_what_is_not_there_is_downloaded_once(tmp_path, root, monkeypatch):
    calls = []

    def download(url, root_of_it, filename, md5):
        calls.append((url, filename, md5))
        shutil.copytree(root / "stl10_binary", f"{root_of_it}/stl10_binary", dirs_exist_ok=True)

    monkeypatch.undo()
    monkeypatch.setattr(stl10, "COUNTS", COUNTS)
    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", download)
    new = tmp_path / "new" / "place"
    assert not STL10.is_there(root=str(new))
    for _ in range(2):
        assert len(STL10(root=str(new))) == 16
    assert STL10.is_there(root=str(new), patch=8)
    (new / "stl10_binary/unlabeled_X.bin").write_bytes(b"an interrupted download")
    assert not STL10.is_there(root=str(new))
    STL10(root=str(new))
    assert len(calls) == 2
    url, filename, md5 = calls[0]
    assert url.endswith(filename)
    assert len(md5) == 32


def test_missing_damaged_and_not_to_be_had(tmp_path, root, monkeypatch):
    with pytest.raises(DataError, match=r"not there: .*nowhere/stl10_binary/train_X.bin is missing. Type --set data.r"):
        STL10(root=str(tmp_path / "nowhere"), download=False)
    data = STL10(root=str(root), download=False)
    path = root / "stl10_binary" / "unlabeled_X.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"unlabeled_X.bin has 193,535 bytes, not 193,536"):
        STL10(root=str(root), download=False)
    with pytest.raises(DataError, match=r"unlabeled_X.bin has been cut short: delete the folder"):
        data.read(15, 0, 1)
    data.read(14, 0, 1)
    path.unlink()
    with pytest.raises(DataError, match=r"cannot read .*unlabeled_X.bin \(No such file or directory\)"):
        data.read(14, 0, 1)

    def fail(root):
        raise OSError("no route to host")

    monkeypatch.setattr(stl10, "_download", fail)
    with pytest.raises(DataError, match=r"cannot provide STL-10 in .*no route to host.*type the same command again"):
        STL10(root=str(root))


def test_classes_out_of_range(root):
    (root / "stl10_binary/test_y.bin").write_bytes(bytes([1, 2, 3, 11]))
    with pytest.raises(DataError, match=r"test_y.bin holds classes other than 1 to 10: delete the folder"):
        STL10(root=str(root))


def test_expected_is_what_there_will_be():
    expected = STL10.expected(root="anywhere")
    assert (expected.items, expected.samples) == (113_000, 113_000 * 121)
    assert (expected.row_shape, expected.crop, expected.classes) == ((1, 16, 16), (7, 7), {"class": 10})
    assert expected.source == "published size of STL-10"
    whole = STL10.expected(patch=0, grayscale=False, views=2, download=True)
    assert (whole.items, whole.samples, whole.row_shape, whole.crop) == (226_000, 226_000, (3, 64, 64), (1, 1))
    with pytest.raises(ConfigError, match=r"data.crop is 104: set it to 96 pixels or less"):
        STL10.expected(crop=104)


@pytest.mark.parametrize("options", [{}, {"views": 2}, {"patch": 0, "grayscale": False}, {"patch": 32, "stride": 16}])
def test_expected_agrees_with_what_is_there(root, options):
    data, expected = STL10(root=str(root), **options), STL10.expected(root=str(root), **options)
    assert (expected.items, expected.samples) == (len(data), data.lengths.sum())
    assert (expected.row_shape, expected.crop) == (data.row_shape, data.crop)


def test_fingerprints(root, tmp_path):
    base = STL10(root=str(root))
    shutil.copytree(root, tmp_path / "elsewhere")
    assert STL10(root=str(tmp_path / "elsewhere")).fingerprint() == base.fingerprint()
    assert copy.deepcopy(base).fingerprint() == base.fingerprint()
    assert STL10(root=str(root), stride=4).fingerprint() != base.fingerprint()
    (root / "stl10_binary/test_y.bin").write_bytes(bytes([1, 1, 1, 1]))
    assert STL10(root=str(root)).fingerprint() == base.fingerprint()
