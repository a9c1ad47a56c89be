"""What a class of one's own reads is embedded: as its items are, in the run, in an export, and in Python."""

import json
import shutil

import numpy as np
import pytest
import tiny
import tiny_images
from click.testing import CliRunner

import stagewise
from stagewise.cli.main import main
from stagewise.datasets.base import Dataset
from stagewise.errors import ConfigError, DataError, InputError
from stagewise.frozen.own_readers import takes

pytestmark = pytest.mark.usefixtures("no_peaks")
TOML = tiny.TOML.replace('target = "tiny:TinySpeech"', 'target = "test_embedding_own:Saved"\nROOT\ngain = 3.0')
TOML = TOML[: TOML.index("[[probe]]")] + '[defaults.store]\ndtype = "float32"\nwrite = true\n'
IMAGES = tiny_images.TOML.replace("tiny_images:TinyImages", "test_embedding_own:SavedImages")


class Saved(Dataset):
    """Arrays of numpy in a folder, louder, and standardised by what they hold."""

    sample_rate = 16_000

    def __init__(self, root, gain=2.0, shift=0.0):
        self.root, self.gain, self.shift = root, gain, shift
        self.keys = [f"{number}.npy" for number in range(8)]
        whole = [np.load(f"{root}/{key}") for key in self.keys]
        self.lengths = np.array([len(x) for x in whole])
        self.mean, self.std = float(np.concatenate(whole).mean()), float(np.concatenate(whole).std())
        self.labels, self.bad = {}, []

    @classmethod
    def read_file(cls, path, gain, mean, std, shift):
        return cls.read_array(np.load(path), gain, mean, std, shift)

    @classmethod
    def read_array(cls, given, gain, mean, std, shift):
        return (gain * (given[None] - np.float32(mean)) / np.float32(std) + shift).astype(np.float32)

    def read(self, item, start, stop):
        return self.read_file(f"{self.root}/{self.keys[item]}", self.gain, self.mean, self.std, self.shift)[
            :, start:stop
        ]

    def split(self, name):
        return np.arange(int(name == "test"), 8, 2)

    def fingerprint(self):
        return f"saved {self.gain} {self.shift} {self.lengths.tolist()}"


class Silent(Saved):
    """Reads its items in another way, of which `read_file` knows nothing."""

    def read(self, item, start, stop):
        return 0 * super().read(item, start, stop)


class OnlyFiles(tiny.TinySpeech):
    """Says nothing of arrays."""

    @classmethod
    def read_file(cls, path):
        return np.load(path)


class SavedImages(tiny_images.TinyImages):
    """Pixels in .npy files, upside down."""

    @classmethod
    def read_file(cls, path):
        return np.load(path)[::-1]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "data").mkdir()
    rng = np.random.default_rng(0)
    for number in range(8):
        np.save(folder / "data" / f"{number}.npy", rng.normal(1, 0.1, 3000 + 100 * number).astype(np.float32))
    file = tiny.write_pipeline(folder, TOML.replace("ROOT", f'root = "{folder / "data"}"'))
    result = CliRunner().invoke(main, ["run", str(file), "--run", str(folder / "run")])
    assert result.exit_code == 0, result.output
    assert "embed" in result.stderr.splitlines()[-1]
    return folder / "run"


@pytest.fixture(scope="module")
def exported(run):
    result = CliRunner().invoke(main, ["export", str(run), "--out", str(run.parent / "encoder")])
    assert result.exit_code == 0, result.output
    return run.parent / "encoder"


def test_files_give_the_rows_of_the_store(run):
    opened = stagewise.open(run)
    found = opened.embed([run.parent / "data"], "two")
    store = opened.stages["two"].store
    (run.parent / "empty" / "@eaDir").mkdir(parents=True)
    with pytest.raises(DataError, match="empty: it holds no input files\n"):
        opened.embed([run.parent / "empty"])
    assert list(found) == [str(run.parent / "data" / f"{number}.npy") for number in range(8)]
    for item, rows in enumerate(found.values()):
        np.testing.assert_allclose(rows, store[item], atol=1e-6)


def test_an_export_reads_them_with_those_arguments_alone_that_reading_takes(run, exported, tmp_path):
    settings = json.loads((exported / "config.json").read_bytes())
    assert settings["input"]["reads"]["arguments"] == {"gain": 3.0}  # and no path of this machine
    assert 'encoder.embed("FILE")' in (exported / "README.md").read_text()
    path = run.parent / "data" / "3.npy"
    wanted, encoder = stagewise.open(run).embed([path])[str(path)], stagewise.load(exported)
    np.testing.assert_allclose(encoder.embed(path), wanted, atol=1e-6)
    np.testing.assert_array_equal(encoder.embed(np.load(path)), encoder.embed(path))
    assert encoder.embed(np.load(path), pool="mean").shape == (6,)
    done = CliRunner().invoke(main, ["embed", str(exported), str(path), "--out", str(tmp_path / "z.npz")])
    assert done.exit_code == 0, done.output
    np.testing.assert_allclose(np.load(tmp_path / "z.npz")["z"], wanted, atol=1e-6)


def test_what_cannot_be_read_is_named_and_can_be_left_out(run, tmp_path):
    shutil.copytree(run.parent / "data", tmp_path / "data")
    (tmp_path / "data" / "8.npy").write_bytes(b"no array")
    np.save(tmp_path / "data" / "9.npy", np.full(4000, np.nan, np.float32))
    np.save(tmp_path / "data" / "short.npy", np.ones(3, np.float32))
    np.save(tmp_path / "data" / "square.npy", np.ones((9, 9), np.float32))
    opened, notes = stagewise.open(run), []
    with pytest.raises(DataError) as error:
        opened.embed([tmp_path / "data"])
    for words in (
        "8.npy: ValueError: ",
        "9.npy: Saved.read_file gives NaN",
        "short.npy: its 3 samples give no row",
        "square.npy: Saved.read_file gives float32 (1, 9, 9), not float32 (1, rows)",
    ):
        assert words in str(error.value)
    made = opened.embedding([tmp_path / "data"], report=lambda _, **facts: notes.append(facts), skip=True)
    assert (len(made.keys), made.left_out) == (8, 4)
    np.save(tmp_path / "data" / "0.npy", np.ones(5000, np.float32))
    with pytest.raises(DataError, match=r"0.npy: it has changed since it was looked at"):
        made.whole(0)


def test_a_class_that_does_not_say_it_is_not_advertised(run, tmp_path):
    reads = stagewise.open(run).encoder().facts["reads"]
    for name, file, array in (("Saved", True, True), ("Silent", False, False), ("OnlyFiles", True, False)):
        named = {**reads, "target": f"test_embedding_own:{name}"}
        assert (takes(named), takes(named, "read_array")) == (file, array)
    assert not takes({**reads, "target": "nowhere:Saved"})
    text = tiny.TOML.replace("[[probe]]", "[[nothing]]").split("[[nothing]]")[0]
    result = CliRunner().invoke(main, ["run", str(tiny.write_pipeline(tmp_path, text)), "--run", str(tmp_path / "run")])
    assert result.exit_code == 0
    assert "embed" not in result.output
    CliRunner().invoke(main, ["export", str(tmp_path / "run"), "--out", str(tmp_path / "encoder")])
    assert "encoder.embed" not in (tmp_path / "encoder" / "README.md").read_text()
    opened = stagewise.open(tmp_path / "run")
    with pytest.raises(ConfigError, match="tiny:TinySpeech does not say how a file that is no item of it is read"):
        opened.embed(["x.npy"])
    with pytest.raises(ConfigError, match="does not say how an array that is no item of it is read: give it a class"):
        opened.encoder().embed(np.ones(4000, np.float32))


def test_arrays_that_cannot_be_used_are_refused_in_words(run):
    encoder = stagewise.open(run).encoder()
    with pytest.raises(InputError, match="given cannot be embedded: its 3 samples give no row of stage context"):
        encoder.embed(np.ones(3, np.float32))
    encoder.facts["reads"] = {**encoder.facts["reads"], "target": "nowhere:Saved"}
    with pytest.raises(ConfigError, match='"nowhere:Saved": there is no such module; install it, or put its folder on'):
        encoder.embed("x.npy")
    encoder = stagewise.open(run).encoder()
    with pytest.raises(InputError, match="test_embedding_own:Saved asks for no sample_rate: leave it out"):
        encoder.embed(np.ones(4000, np.float32), sample_rate=8000)


def test_images(tmp_path):
    file = tiny_images.write_pipeline(tmp_path, IMAGES)
    stagewise.run(file, run=tmp_path / "run", set={"defaults.train.epochs": 1})
    opened, data = stagewise.open(tmp_path / "run"), tiny_images.TinyImages()
    for name, pixels in (("three", data.pixels[3][::-1]), ("flat", data.pixels[3][::-1, :, 0])):
        np.save(tmp_path / f"{name}.npy", pixels)
    made = opened.embedding([tmp_path / "three.npy", tmp_path / "flat.npy"])
    np.testing.assert_allclose(made.whole(0), opened.stages["two"].store[3], atol=1e-6)
    np.testing.assert_array_equal(made.whole(0), made.whole(1))
    assert made.grids.tolist() == [[5, 5]] * 2
    np.save(tmp_path / "colour.npy", np.zeros((24, 24, 3), np.uint8))
    np.save(tmp_path / "small.npy", np.zeros((5, 24), np.uint8))
    with pytest.raises(DataError) as error:
        opened.embed([tmp_path / "colour.npy", tmp_path / "small.npy"])
    assert "gives uint8 (24, 24, 3), not uint8 (height, width, 1)" in str(error.value)
    assert "its 5 × 24 pixels hold no patch of 8 × 8" in str(error.value)
