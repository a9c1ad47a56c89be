"""What `embed` gives are the rows of the run's own stores; long files are streamed; bad ones are named."""

import errno
import os
import tracemalloc

import embedding_examples as examples
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

import stagewise
from stagewise.datasets import audio as audio_files
from stagewise.encoding import stream as streaming
from stagewise.errors import ConfigError, DataError, NumberError
from stagewise.frozen import export as writing
from stagewise.frozen import given_files
from stagewise.frozen.export import settings_of, write_export
from stagewise.frozen.given_files import GivenAudio
from stagewise.frozen.writers import write

pytestmark = pytest.mark.usefixtures("no_peaks")


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
        np.testing.assert_array_equal(rows, store[item])  # which were computed from the store below


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
    told = []
    made = audio.embedding([tmp_path], report=lambda kind, **facts: told.append((kind, facts)))
    assert told[0][1]["text"].startswith("computed on ")
    assert told[1:] == [
        ("look", {"what": "audio files", "files": 3, "of": 3}),
        ("note", {"text": "1 file is converted from 8,000 to 16,000 Hz."}),
        ("note", {"text": "the channels of 1 file with several are averaged."}),
    ]
    found = {key.rpartition("/")[2]: np.concatenate(list(made.pieces(i))) for i, key in enumerate(made.keys)}
    np.testing.assert_allclose(found["stereo.wav"], found["mono.wav"], atol=1e-5)
    assert len(found["slow.wav"]) == len(found["mono.wav"])  # half a second either way


@pytest.mark.slow
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
        write(audio.embedding([path]), tmp_path / "z.npz", silent, force=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        largest.append(max(spans))
        assert len(spans) > 1
    assert largest[0] == largest[1]
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.parametrize("suffix", ["ogg", "mp3", "flac"])
def test_a_long_file_is_looked_at_once_and_decoded_once(audio, tmp_path, monkeypatch, suffix):
    path = tmp_path / f"long.{suffix}"
    soundfile.write(path, examples.noise(30), examples.RATE)
    whole = audio.embed([path], "one")[str(path)]  # in other pieces: the last bits may differ
    looks, decoded = [], []
    header, decode = audio_files.Header, audio_files._Stream.read

    def spy(self, frames, **options):
        decoded.append(frames)
        return decode(self, frames, **options)

    class Look(header):
        def __init__(self, *facts):
            looks.append(1)
            super().__init__(*facts)

    monkeypatch.setattr(audio_files, "Header", Look)
    monkeypatch.setattr(audio_files._Stream, "read", spy)
    monkeypatch.setattr(streaming.stream, "__defaults__", (2**15, (1,), 0, None))
    made = audio.embedding([path], "one")
    pieces = list(made.pieces(0))
    assert len(pieces) > 50
    assert len(looks) == 1
    assert sum(decoded) < 1.2 * len(examples.noise(30))
    np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate(list(made.pieces(0))), np.concatenate(pieces))  # from the beginning


def test_an_image_of_many_pieces_is_decoded_once(images, monkeypatch):
    paths = sorted((images.path.parent / "images" / "a").iterdir())[:2]
    decoded, read = [], given_files.read_pixels
    monkeypatch.setattr(given_files, "read_pixels", lambda path, *how: decoded.append(path) or read(path, *how))
    data = images.embedding(paths).chain.source.dataset
    for item in (0, 1, 0):
        whole = data.read(item, 0, int(data.lengths[item]))
        for start in range(0, int(data.lengths[item]) - 3, 3):
            np.testing.assert_array_equal(data.read(item, start, start + 3), whole[:, start : start + 3])
    assert decoded == [str(paths[item]) for item in (0, 1, 0)]


def test_a_data_set_of_ones_own_is_refused(audio):
    run = stagewise.open(audio.path)
    pipeline = run.locked["pipeline"]
    data = pipeline["data"] | {"target": "embedding_examples:Louder"}
    run.locked = {**run.locked, "pipeline": pipeline | {"data": data}}
    with pytest.raises(ConfigError, match="Louder does not say how a file that is no item of it is read"):
        run.embed([run.path.parent / "audio"])
    run.locked["pipeline"]["data"]["target"] = "nowhere:Louder"  # an encoder needs no data set's class
    assert run.encoder("two").channels == 8


def test_a_data_set_of_ones_own_that_reads_as_ours_is_taken(audio):
    run, path = stagewise.open(audio.path), audio.path.parent / "audio" / "a" / "0.wav"
    pipeline = run.locked["pipeline"]
    data = pipeline["data"] | {"target": "embedding_examples:Relabelled"}
    run.locked = {**run.locked, "pipeline": pipeline | {"data": data}}
    np.testing.assert_array_equal(run.embed([path])[str(path)], audio.embed([path])[str(path)])
    samples, rate = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(run.encoder().embed(samples, sample_rate=rate), audio.embed([path])[str(path)])
    reads = settings_of(run.encoder())["input"]["reads"]
    assert (reads["kind"], reads["arguments"]) == ("audio", {})  # its export needs no class, and says no path


def test_threads_are_left_as_they_are(audio):
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        audio.embed([audio.path.parent / "audio" / "a"], "one")
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_rows_that_are_no_numbers_are_refused(audio):
    made = audio.embedding([audio.path.parent / "audio" / "a"], "one")
    for parameter in made.chain.stages[0].parameters():
        parameter.fill_(torch.inf)
    with pytest.raises(NumberError, match=r"a/0.wav: stage one gives NaN or infinity. Listen to it"):
        list(made.pieces(0))


def test_names_that_are_no_text_are_named(audio, tmp_path):
    sound = tmp_path / os.fsdecode(b"caf\xe9.wav")
    with open(os.fsencode(sound), "wb") as file:  # noqa: PTH123
        file.write((audio.path.parent / "audio" / "a" / "0.wav").read_bytes())
    for path in (sound, tmp_path):
        with pytest.raises(DataError, match=r"caf.udce9.wav: its name is not UTF-8: rename it") as caught:
            audio.embed([path])
        str(caught.value).encode()
    with pytest.raises(DataError, match=r"a.nb.wav: its name holds a line break"):
        audio.embed([tmp_path / "a\nb.wav"])


def test_a_folder_that_cannot_be_read_is_named_with_the_reason(audio, tmp_path, monkeypatch):
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scan(path)

    (tmp_path / "open" / "closed").mkdir(parents=True)
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"open/closed: Permission denied"):
        audio.embed([tmp_path / "open"])


@pytest.mark.parametrize("kind", ["audio", "images"])
def test_an_encoder_gives_the_rows_of_the_command(kind, request, tmp_path, monkeypatch):
    """To the byte, of a file unlike those it was trained on: from the run, and from an export without it."""
    run = request.getfixturevalue(kind)
    path = tmp_path / ("new.flac" if kind == "audio" else "new.png")
    if kind == "audio":
        soundfile.write(path, examples.noise(1.5, channels=2, rate=8000), 8000)
    else:
        Image.fromarray(np.random.default_rng(9).integers(0, 256, (90, 70, 3), np.uint8)).save(path)
    monkeypatch.setattr(writing, "write_program", lambda *_: "model.pt2 is left out: not asked for.")
    write_export(run, "two", tmp_path / "encoder", False, silent)
    assert "rows = encoder.embed(" in (tmp_path / "encoder" / "README.md").read_text()
    for pool in (None, "mean", "mean+std"):
        write(run.embedding([path], "two", pool), tmp_path / "z.npz", silent, force=True)
        with np.load(tmp_path / "z.npz") as archive:
            z = archive["z"]
        for encoder in (run.encoder("two"), stagewise.load(tmp_path / "encoder").requires_grad_(True)):
            found = encoder.embed(path, pool)
            assert (found.dtype, found.shape) == (np.float32, z.shape if pool is None else z.shape[1:])
            assert found.tobytes() == z.tobytes()


def test_an_encoder_refuses_what_the_command_refuses(audio, tmp_path):
    (tmp_path / "damaged.wav").write_bytes(b"RIFF nothing")
    soundfile.write(tmp_path / "short.wav", examples.noise(0.0005), examples.RATE)
    encoder = audio.encoder("context")
    for name in ("damaged.wav", "missing.wav", "short.wav"):
        with pytest.raises(DataError) as wanted:
            audio.embed([tmp_path / name])
        with pytest.raises(DataError) as found:
            encoder.embed(str(tmp_path / name))
        assert str(found.value) == str(wanted.value)
    with pytest.raises(ConfigError, match=r"is a folder: name one file after another, or type `stagewise embed`"):
        encoder.embed(tmp_path)


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
    Image.new("L", (300, 2)).save(tmp_path / "fits.png")  # its short side becomes 24 pixels
    assert next(iter(images.embed([tmp_path / "fits.png"]).values())).shape[1] == 12
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"text.png: it is not an image"):
        images.embed([tmp_path])
    Image.new("L", (2_000_000, 2)).save(tmp_path / "line.png")
    with pytest.raises(DataError, match=r"line.png: it has more than the 67,108,864 pixels that are decoded"):
        images.embed([tmp_path / "line.png"])
    Image.new("L", (30, 6)).save(tmp_path / "low.png")
    facts = images.encoder("two").facts
    unresized = facts | {"reads": facts["reads"] | {"short_side": None}}
    with pytest.raises(DataError, match=r"low.png: its 6 × 30 pixels hold no patch of 8 × 8: enlarge it"):
        given_files.GivenImages([tmp_path / "low.png"], unresized, silent, skip=False)
