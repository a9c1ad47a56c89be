"""What `embed` gives are the rows of the run's own stores; long files are streamed; bad ones are named."""

import tracemalloc

import embedding_examples as examples
import numpy as np
import pytest
import soundfile

import stagewise
from stagewise.embedding.given_audio import GivenAudio
from stagewise.embedding.write import write
from stagewise.errors import ConfigError, DataError


def silent(*_, **__):
    pass


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    return stagewise.open(folder / "run") if examples.audio_run(folder) else None


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    return stagewise.open(folder / "run") if examples.image_run(folder) else None


@pytest.mark.parametrize("stage", ["one", "two", "context"])
def test_audio_gives_the_rows_of_the_store(audio, stage):
    root = audio.path.parent / "audio"
    found = audio.embed([root], stage)
    store = audio.stages[stage].store
    keys = sorted(f"{path.relative_to(root)}" for path in root.rglob("*.wav"))
    assert list(found) == [f"{root}/{key}" for key in keys]
    for item, key in enumerate(keys):
        rows = found[f"{root}/{key}"]
        if stage == "context":  # the run's came from a store, where they lie in another order: last bits differ
            np.testing.assert_allclose(rows, store[item], rtol=0, atol=1e-7)
        else:
            np.testing.assert_array_equal(rows, store[item])


def test_images_give_the_rows_of_the_store(images):
    root = images.path.parent / "images"
    keys = sorted(f"{path.relative_to(root)}" for path in root.rglob("*.png"))
    found, below = images.embed([root]), images.embed([root], "one")
    for item, key in enumerate(keys):
        np.testing.assert_array_equal(found[f"{root}/{key}"], images.stages["two"].store[item])
        maps = images.stages["one"].store[item]
        np.testing.assert_allclose(below[f"{root}/{key}"], maps.mean((1, 2)), atol=1e-6)


def test_pooled_rows_are_their_means(audio):
    root = audio.path.parent / "audio"
    rows, pooled = audio.embed([root / "a"]), audio.embed([root / "a"], pool="mean")
    assert rows.keys() == pooled.keys()
    for key, row in pooled.items():
        assert row.shape == (6,)
        np.testing.assert_allclose(row, rows[key].astype(np.float64).mean(0), atol=1e-6)
    with pytest.raises(ConfigError, match="pool"):
        audio.embed([root], pool="max")


def test_other_rates_and_channels_are_converted_with_a_note(audio, tmp_path):
    stereo = examples.noise(0.5, channels=2)
    soundfile.write(tmp_path / "stereo.wav", stereo, examples.RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "mono.wav", stereo.astype(np.float32).mean(1), examples.RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "slow.wav", examples.noise(0.5, rate=8000), 8000)
    notes = []
    made = audio.embedding([tmp_path], note=notes.append)
    assert notes == [
        "1 files of 8,000 Hz are converted to 16,000 Hz.",
        "the channels of 1 files that have several are averaged.",
    ]
    found = {key.rpartition("/")[2]: np.concatenate(list(made.pieces(i))) for i, key in enumerate(made.keys)}
    np.testing.assert_allclose(found["stereo.wav"], found["mono.wav"], atol=1e-5)
    assert len(found["slow.wav"]) == len(found["mono.wav"])  # half a second either way


def test_a_long_file_is_streamed(audio, tmp_path, monkeypatch):
    spans, peaks = [], []
    read = GivenAudio.read

    def spy(self, item, start, stop):
        spans.append(stop - start)
        return read(self, item, start, stop)

    monkeypatch.setattr(GivenAudio, "read", spy)
    largest = []
    for minutes in (4, 8):
        path = tmp_path / f"{minutes}.wav"
        soundfile.write(path, np.tile(examples.noise(60), (minutes, 1)), examples.RATE)
        spans.clear()
        tracemalloc.start()
        write(audio.embedding([path]), tmp_path / "z.npz", silent)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        largest.append(max(spans))
        assert len(spans) > 1
    assert largest[0] == largest[1]
    assert peaks[1] < 1.1 * peaks[0]


def test_bad_inputs_are_named_all_at_once(audio, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.wav").write_bytes(b"RIFF nothing")
    soundfile.write(tmp_path / "short.wav", examples.noise(0.0005), examples.RATE)
    soundfile.write(tmp_path / "nan.wav", np.full(4000, np.nan), examples.RATE, subtype="FLOAT")
    with pytest.raises(DataError) as caught:
        audio.embed([tmp_path / "damaged.wav", tmp_path / "missing.wav", tmp_path / "empty"])
    for name in ("damaged.wav", "missing.wav: No such file", "empty: it holds no audio files", "3 of 3 inputs"):
        assert name in str(caught.value)
    with pytest.raises(DataError, match=r"short.wav: its 8 samples give no row of stage context"):
        audio.embed([tmp_path / "short.wav"])
    with pytest.raises(DataError, match=r"nan.wav holds NaN"):
        audio.embed([tmp_path / "nan.wav"])
    with pytest.raises(ConfigError, match="has no stage 'three'; it has one, two, context"):
        audio.embed([tmp_path / "short.wav"], "three")
    with pytest.raises(ConfigError, match="name audio files"):
        audio.embed([])


def test_images_that_hold_no_patch_are_named(images, tmp_path):
    from PIL import Image

    Image.new("L", (300, 2)).save(tmp_path / "fits.png")  # its short side becomes 24 pixels
    assert next(iter(images.embed([tmp_path / "fits.png"]).values())).shape[1] == 12
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"text.png: it is not an image"):
        images.embed([tmp_path])
