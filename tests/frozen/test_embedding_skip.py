"""`embed --skip` leaves out what cannot be used, and nothing else; without it, the error says so."""

import errno
import os

import embedding_examples as examples
import numpy as np
import pytest
import soundfile
import zarr
from click.testing import CliRunner
from PIL import Image

import stagewise
from stagewise.cli.main import main
from stagewise.frozen import export as writing
from stagewise.frozen import given_files

pytestmark = pytest.mark.usefixtures("no_peaks")


def call(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    examples.audio_run(folder)
    return folder


def damaged_flac(path):
    soundfile.write(path, examples.noise(10), examples.RATE)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    path.write_bytes(content)


def keys_of(path):
    with np.load(path) as archive:
        assert len(archive["z"]) == archive["offsets"][-1]
        return bytes(archive["keys"]).decode().split("\n")


@pytest.mark.parametrize("suffix", ["npz", "zarr", "parquet"])
def test_what_cannot_be_used_is_left_out_and_named(audio, tmp_path, monkeypatch, suffix):
    """Whatever is wrong: at its beginning, in its middle, its length; and what is left is as if it had been alone."""
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    for number in (0, 2):
        soundfile.write(f"good{number}.wav", examples.noise(0.3, number), examples.RATE, subtype="FLOAT")
    good = ["good0.wav", "good2.wav"]
    assert call("embed", audio / "run", *good, "--out", f"good.{suffix}").exit_code == 0
    (tmp_path / "a.wav").write_text("nothing")
    damaged_flac(tmp_path / "middle.flac")
    samples = np.full(40_000, 0.01, np.float32)
    samples[30_000] = np.nan
    soundfile.write("nan.wav", samples, examples.RATE, subtype="FLOAT")
    soundfile.write("short.wav", samples[:8], examples.RATE)
    bad = ["a.wav", "middle.flac", "nan.wav", "short.wav"]
    given = ["a.wav", "good0.wav", "middle.flac", "nan.wav", "good2.wav", "short.wav"]
    refused = call("embed", audio / "run", *given, "--out", f"z.{suffix}")
    assert (refused.exit_code, "Type --skip to leave out what cannot be used." in refused.stderr) == (1, True)
    late = call("embed", audio / "run", "good0.wav", "nan.wav", "--out", f"z.{suffix}")  # its header is sound
    assert (late.exit_code, "Type --skip" in late.stderr, (tmp_path / f"z.{suffix}").exists()) == (1, True, False)
    done = call("embed", audio / "run", *given, "--out", f"z.{suffix}", "--skip")
    assert done.exit_code == 0, done.output
    assert "2 items, 4 files left out" in done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("left out")]
    assert sorted(line.split()[2].rstrip(":") for line in lines) == bad
    for words in ("middle.flac: the decoder says", "nan.wav: holds NaN or an infinity at sample 30,000\n"):
        assert words in done.stderr
    for path in tmp_path.rglob(f"good.{suffix}/**/*") if suffix == "zarr" else [tmp_path / f"good.{suffix}"]:
        if path.is_file():
            other = tmp_path / f"z.{suffix}" / path.relative_to(tmp_path / f"good.{suffix}")
            assert path.read_bytes() == other.read_bytes()


def test_many_are_named_up_to_a_number(audio, tmp_path, monkeypatch):
    monkeypatch.setattr(given_files, "SHOWN", 2)
    for number in range(5):
        (tmp_path / f"{number}.wav").write_text("nothing")
    good = audio / "audio" / "a" / "0.wav"
    done = call("embed", audio / "run", tmp_path, good, "--skip", "--out", tmp_path / "z.npz")
    assert done.stderr.count("left out") == 3
    assert "left out 3 more\n" in done.stderr
    assert "1 item, 5 files left out" in done.stdout
    assert keys_of(tmp_path / "z.npz") == [str(good)]


def test_nothing_to_be_used_is_an_error(audio, tmp_path):
    (tmp_path / "a.wav").write_text("nothing")
    done = call("embed", audio / "run", tmp_path, "--skip", "--out", tmp_path / "z.npz")
    assert (done.exit_code, "1 of 1 input cannot be used" in done.stderr, "--skip" in done.stderr) == (1, True, False)
    assert not (tmp_path / "z.npz").exists()


def test_images_are_left_out_and_their_size_is_told(tmp_path):
    root = examples.image_run(tmp_path)
    (root / "cut.png").write_bytes((root / "a" / "0.png").read_bytes()[:-900] + b"\0" * 888 + b"IEND\xaeB`\x82")
    done = call("embed", tmp_path / "run", root, "--skip", "--out", tmp_path / "z.npz")
    assert (done.exit_code, f"left out {root}/cut.png: " in done.stderr) == (0, True)
    assert (
        "12 items, 1 file left out; trained on crops of 20 × 20 pixels of images resized to a short side of 24\n"
        in (done.stdout)
    )
    assert "larger" not in done.stderr  # all are resized


@pytest.mark.parametrize("suffix", ["npz", "zarr"])
def test_rows_of_images_can_be_laid_out_again(tmp_path, suffix):
    root = examples.image_run(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 50), np.uint8)).save(tmp_path / "wide.png")
    images = (tmp_path / "wide.png", root / "a" / "0.png")
    for pool in ((), ("--pool", "mean")):
        words = ("embed", tmp_path / "run", *images, *pool, "--out", tmp_path / f"z.{suffix}", "--force")
        assert call(*words).exit_code == 0
        if suffix == "npz":
            with np.load(tmp_path / "z.npz") as archive:
                made = dict(archive)
        else:
            made = dict(zarr.open_group(tmp_path / "z.zarr").arrays())
        assert ("grids" in made) == (not pool)
        if not pool:
            grids = made["grids"][:]
            assert grids.prod(1).tolist() == np.diff(made["offsets"][:]).tolist()
            assert grids[0, 1] > grids[0, 0]  # as the image is


def test_images_of_another_scale_are_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "IMAGES", examples.IMAGES.replace("\nsize = 24", ""))
    root = examples.image_run(tmp_path)
    done = call("embed", tmp_path / "run", root, "--out", tmp_path / "z.npz")
    assert "12 items; trained on crops of 20 × 20 pixels\n" in done.stdout
    assert "2 of 12 images" not in done.stderr
    for number, side in enumerate((40, 41, 90)):
        Image.new("RGB", (side, side + 100)).save(tmp_path / f"{number}.png")
    Image.new("L", (30, 30)).save(two := tmp_path / "two.tif", save_all=True, append_images=[Image.new("L", (30, 30))])
    noted = call("embed", tmp_path / "run", two, tmp_path / "0.png", "--out", tmp_path / "x.npz").stderr
    assert f"1 image with several frames, of which the first is taken: {two}\n" in noted
    assert f"1 image in colour, taken in grey: {tmp_path}/0.png\n" in noted
    done = call("embed", tmp_path / "run", *(tmp_path / f"{n}.png" for n in range(3)), "--out", tmp_path / "y.npz")
    assert "warning: 2 of 3 images are more than twice as large as the crops trained on (20 pixels)" in done.stderr
    monkeypatch.setattr(writing, "write_program", lambda *_: "model.pt2 is left out: not asked for.")
    assert call("export", tmp_path / "run", "--out", tmp_path / "encoder").exit_code == 0
    card = (tmp_path / "encoder" / "README.md").read_text()
    assert "Trained on crops of 20 × 20 pixels: things should have about the size in pixels" in card
    assert stagewise.load(tmp_path / "encoder").facts["reads"]["crop"] == 20


def test_a_folder_that_cannot_be_read_takes_no_others_with_it(audio, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/0.wav", "locked/1.wav", "z/2.wav"):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        soundfile.write(tmp_path / "in" / name, examples.noise(0.3), examples.RATE)
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    refused = call("embed", audio / "run", "in", "--out", "z.npz")
    assert (refused.exit_code, "in/locked: Permission denied" in refused.stderr) == (1, True)
    done = call("embed", audio / "run", "in", "--out", "z.npz", "--skip")
    assert (done.exit_code, "left out in/locked: Permission denied" in done.stderr) == (0, True)
    assert keys_of(tmp_path / "z.npz") == ["in/a/0.wav", "in/z/2.wav"]


def test_a_folder_of_files_with_a_config_of_another_program_is_an_input(audio, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    soundfile.write("in/0.wav", examples.noise(0.3), examples.RATE)
    (tmp_path / "in" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "last").symlink_to(audio / "run")
    done = call("embed", "in", "--out", "z.npz")
    assert done.exit_code == 0, done.output
    assert keys_of(tmp_path / "z.npz") == ["in/0.wav"]
    done = call("embed", "x.toml", "in", "--out", "y.npz")
    assert (done.exit_code, "is not there" in done.stderr) == (2, True)
    (tmp_path / "x.toml").touch()
    done = call("embed", "x.toml", "in", "--out", "y.npz")
    assert (done.exit_code, "x.toml is a pipeline file: name the run" in done.stderr) == (2, True)


def test_a_group_of_somebody_else_is_not_replaced(audio, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    soundfile.write("0.wav", examples.noise(0.3), examples.RATE)
    zarr.open_group("z.zarr", mode="w", attributes={"note": "mine"}).create_array("z", data=np.zeros(3))
    done = call("embed", audio / "run", "0.wav", "--out", "z.zarr", "--force")
    assert (done.exit_code, "is not what this command writes" in done.stderr) == (2, True)
    assert zarr.open_group("z.zarr", mode="r").attrs["note"] == "mine"
    (tmp_path / "fz.zarr").mkdir()
    for name in ("zarr.json", "z", "offsets", "keys"):
        (tmp_path / "fz.zarr" / name).write_text("mine")
    done = call("embed", audio / "run", "0.wav", "--out", "fz.zarr", "--force")
    assert (done.exit_code, "is not what this command writes" in done.stderr) == (2, True)
    assert call("embed", audio / "run", "0.wav", "--out", "own.zarr").exit_code == 0
    assert call("embed", audio / "run", "0.wav", "--out", "own.zarr", "--force").exit_code == 0


def test_one_run_is_named_and_first(audio, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my runs").symlink_to(audio)
    soundfile.write("0.wav", examples.noise(0.3), examples.RATE)
    for inputs in (["0.wav", "my runs/run"], ["my runs/run", "my runs/run"]):
        wrong = call("embed", *inputs, "--out", "y.npz")
        assert wrong.exit_code == 2
        assert "one alone is named, and first, as in `stagewise embed 'my runs/run' FILES --out y.npz`" in wrong.stderr
    wrong = call("embed", "0.wav", "my runs/run", "--out", "{y}.npz")
    assert (wrong.exit_code, "'my runs/run' FILES --out '{y}.npz'`" in wrong.stderr) == (2, True)
