"""Any folder of images: what is found, which part each belongs to, labels, and the real photographs."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from image_examples import naive_patches, picture, save
from image_folder_examples import FILES, SMALL, encoded, fill

from stagewise.datasets.image_folder import ImageFolder
from stagewise.errors import ConfigError, DataError


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
    with pytest.raises(DataError, match=r"test.txt:1: 1 line names no file: x.png: set"):
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


def test_further_labels_from_tables_and_names(tmp_path):
    root = fill(tmp_path / "train", ["cat/p1_a.png", "cat/p2_b.png", "dog/p1_c.png", "p2_d.png"])
    test = fill(tmp_path / "eval", ["dog/p9_e.png"])
    (tmp_path / "t.csv").write_text("file;Sex\ncat\\p1_a.png;m\np2_b; w\ntest/dog/p9_e.png;m\ngone.png;w\n")
    labels = {"sex": str(tmp_path / "t.csv"), "plate": "{plate}_*.png"}
    data = ImageFolder(root=str(root), test=str(test), labels=labels, views=2, **SMALL)
    assert list(data.labels) == ["class", "sex", "plate"]
    sexes, plates = ([data.label_classes(name)[n] if n >= 0 else "" for n in data.item_labels(name)] for name in labels)
    assert sexes == ["m", "m", "w", "w", "", "", "", "", "m", "m"]
    assert plates[::2] == ["p1", "p2", "p1", "p2", "p9"]
    assert data.labels["sex"].strays.examples == ("gone.png",)
    with pytest.raises(ConfigError, match="data.labels must be a table, .*; `class` comes from the folders"):
        ImageFolder(root=str(root), labels={"class": "t.csv"}, **SMALL)


def test_folders_of_test_images_are_counted_below_their_own(tmp_path):
    root = fill(tmp_path / "train", ["cat/p1/a.png", "dog/p2/c.png"])
    test = fill(tmp_path / "eval", ["cat/p2/d.png", "dog/p1/e.png"])
    data = ImageFolder(root=str(root), test=str(test), labels={"plate": "folder:2", "again": "*/{again}/*"}, **SMALL)
    for name in ("plate", "again"):
        assert [data.label_classes(name)[number] for number in data.item_labels(name)] == ["p1", "p2", "p2", "p1"]


def test_without_folders_the_first_label_is_split_by(tmp_path):
    root = fill(tmp_path, [f"{name}_{number}.png" for name in ("cat", "dog") for number in range(10)])
    data = ImageFolder(root=str(root), labels={"kind": "{kind}_*"}, test_fraction=0.3, **SMALL)
    assert [data.item_labels("kind")[data.split("test")].tolist().count(number) for number in (0, 1)] == [3, 3]
