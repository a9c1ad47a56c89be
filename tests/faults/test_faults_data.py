"""Files that cannot be used end a command before anything is trained, or are left out and counted; odd ones work."""

import contextlib
import io
import json
import os
import shutil
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from PIL import Image

import stagewise
from stagewise.cli.main import main

RATE = 16000
HEAD = """\
format = 1
[pipeline]
name = "files"
[defaults.train]
epochs = 1
batch_size = 4
precision = "float32"
[defaults.store]
write = true
dtype = "float32"
[[stage]]
name = "one"
"""
AUDIO = (
    HEAD
    + """\
encoder = { target = "conv1d", in_channels = 1, out_channels = 4, kernel_size = 10, stride = 5, padding = 2 }
objective = { steps = 2, negatives = 4, window = 16 }
[data]
target = "audio-folder"
root = "data"
"""
)
IMAGES = (
    HEAD
    + """\
encoder = { target = "resnet", in_channels = 1, planes = 2, blocks = 1, stem = 3 }
objective = { target = "infonce-grid", steps = 2, negatives = 3 }
[data]
target = "image-folder"
root = "data"
patch = 8
stride = 4
crop = 20
"""
)
NAMES = ["with space", "emoji 🎺 é", "x" * 251, "Case", "case", "two ends", "-dash", "#;,'\"", "%s {0} [red]"]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty folder `data` of the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def stagewise_says(*line):
    """Type a command; nothing it says may be unforeseen."""
    result = CliRunner().invoke(main, [str(word) for word in line])
    assert "unforeseen" not in result.stderr
    assert "Traceback" not in result.stderr
    return result.exit_code, result.stderr


def run(text, *sets, verb=("run", "--run", "run")):
    Path("x.toml").write_text(text)
    return stagewise_says(verb[0], "x.toml", *verb[1:], *(word for pair in sets for word in ("--set", pair)))


def noise(samples=1000, channels=1, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, (samples, channels)).astype(np.float32)


def wav(path, samples=1000, rate=RATE, channels=1, seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(samples, channels, seed), rate, **options)
    return path


def pixels(side=24, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


def picture(path, side=24, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels(side, seed).save(path)
    return path


MAKE = {"audio": (AUDIO, ".wav", wav), "image": (IMAGES, ".png", picture)}


def cut(path, keep):
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])


def bomb():
    """A PNG of a few bytes that says it has 40,000 × 40,000 pixels."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b""))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in [*chunks, (b"IEND", b"")]
    )


def harm_audio(data):
    """Write bad recordings; return what is said of each."""
    for name in ("cut.flac", "cut.wav", "cut.ogg", "nearly.wav"):
        cut(wav(data / name, 100_000), 0.9999 if name == "nearly.wav" else 0.5)
    (data / "text.flac").write_text("these are words")
    (data / "nothing.wav").touch()
    wav(data / "rate.wav", rate=22_050)
    wav(data / "stereo.flac", channels=2)
    wav(data / "none.wav", samples=0)
    os.mkfifo(data / "pipe.wav")
    shutil.copy(data / "good-0.wav", data / "two\nlines.wav")
    shutil.copy(os.fsencode(data / "good-0.wav"), os.fsencode(data) + b"/caf\xe9.wav")
    return {
        "cut.flac": "it ends before sample 100,000, which its header promises",
        "cut.wav": "it ends before its header says: the file is cut short or damaged",
        "cut.ogg": "it ends before its header says: the file is cut short or damaged",
        "nearly.wav": "it ends before its header says: the file is cut short or damaged",
        "text.flac": "the decoder says: Format not recognised",
        "nothing.wav": "the file is empty",
        "rate.wav": "22,050 Hz where 16,000 Hz is expected: set data.resample = true to convert it",
        "stereo.flac": "2 channels where 1 is expected: set data.mono = true to average them",
        "none.wav": "the file holds no samples",
        "pipe.wav": "it is not a regular file",
        "two\\nlines.wav": "its name holds a line break: rename it",
        "caf\\udce9.wav": "its name is not UTF-8: rename it",
    }


def harm_images(data):
    """Write bad images; return what is said of each."""
    for name in ("cut.png", "cut.jpg"):
        cut(picture(data / name, 64), 0.7)
    (data / "text.png").write_text("these are words")
    (data / "nothing.jpg").touch()
    (data / "bomb.png").write_bytes(bomb())
    picture(data / "dot.png", 1)
    Image.fromarray(np.zeros((24, 24), np.float32)).save(data / "float.tif")
    os.mkfifo(data / "pipe.png")
    shutil.copy(os.fsencode(data / "good-0.png"), os.fsencode(data) + b"/caf\xe9.png")
    return {
        "cut.png": "the decoder says: image file is truncated",
        "cut.jpg": "the decoder says: image file is truncated",
        "text.png": "it is not an image of a known kind, or its header is damaged",
        "nothing.jpg": "the file is empty",
        "bomb.png": "it has more than the 67,108,864 pixels that are decoded: shrink it",
        "dot.png": "1 × 1 pixels hold no row of 8 × 8",
        "float.tif": "32-bit pixels have no known range",
        "pipe.png": "it is not a regular file",
        "caf\\udce9.png": "its name is not UTF-8: rename it",
    }


HARM = {"audio": harm_audio, "image": harm_images}


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("policy", ["error", "skip"])
def test_bad_files_are_named_before_anything_is_trained(data, monkeypatch, kind, policy):
    monkeypatch.setattr("stagewise.datasets.bad_items.SHOWN", 99)
    text, suffix, make = MAKE[kind]
    for number in range(4):
        make(data / f"good-{number}{suffix}", seed=number)
    reasons = HARM[kind](data)
    remedy = "set data.bad_items" if policy == "error" else 'That is more than the 1% that data.bad_items = "skip"'
    for verb in (("run", "--run", "run"), ("plan",)):
        code, words = run(text, f'data.bad_items="{policy}"', verb=verb)
        assert code == 1
        assert f"{len(reasons)} of {len(reasons) + 4} {kind} files cannot be used:" in words
        assert remedy in words
        for name, reason in reasons.items():
            assert f"  data/{name}: {reason}" in words
    assert not list(Path("run").glob("stages/*"))


@pytest.mark.parametrize("kind", MAKE)
def test_one_bad_file_in_a_hundred_is_left_out_and_counted(data, kind):
    text, suffix, make = MAKE[kind]
    for number in range(99):
        make(data / f"{number:02d}{suffix}", seed=number)
    (data / f"bad{suffix}").write_text("these are words")
    before = state(data)
    code, words = run(text, 'data.bad_items="skip"', "defaults.train.batch_size=64")
    assert code == 0
    assert f"left out data/bad{suffix}: " in words
    listed = json.loads(Path("run/data.json").read_bytes())
    assert (listed["items"], [item["key"] for item in listed["skipped"]]) == (99, [f"bad{suffix}"])
    assert len(stagewise.open("run").stages["one"].store) == 99
    assert stagewise_says("verify", "run")[0] == 0
    assert state(data) == before


def state(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [folder, *folder.rglob("*")]}


def test_odd_recordings_and_names_are_trained_on_and_encoded(data):
    for number, name in enumerate(NAMES):
        wav(data / "ann" / f"{name}.wav", seed=number)
    wav(data / "bob" / "24.wav", subtype="PCM_24")
    wav(data / "bob" / "24.flac", subtype="PCM_24")  # the same name but for the suffix
    wav(data / "bob" / "fast.wav", rate=44_100, channels=2)
    wav(data / "bob" / "one sample.wav", 1)
    wav(data / "bob" / "short.wav", 40)
    before = state(data)
    code, words = run(AUDIO, "data.resample=true", "data.mono=true", "data.test_fraction=0", "data.validation=0")
    assert code == 0, words
    assert "2 of 14 training items are too short for a window of 16 rows; they are encoded but not trained" in words
    lengths = stagewise.open("run").stages["one"].store.lengths
    assert sorted(lengths.tolist()) == [0, 7, 72, *[199] * 11]  # 44,100 Hz: 363 samples
    assert stagewise_says("verify", "run")[0] == 0
    assert state(data) == before


def test_odd_images_are_trained_on_and_encoded(data):
    for number, name in enumerate(NAMES):
        picture(data / "cat" / f"{name}.png", seed=number)
    sixteen = np.asarray(pixels().convert("L")).astype(np.uint16) * 256
    Image.fromarray(sixteen).save(data / "cat" / "16 bits.png")
    pixels().convert("CMYK").save(data / "cat" / "cmyk.jpg")
    picture(data / "cat" / "small.png", 9)
    before = state(data)
    code, words = run(IMAGES, "data.test_fraction=0", "data.validation=0")
    assert code == 0, words
    assert "1 of 12 training items are too short" in words
    assert sorted(stagewise.open("run").stages["one"].store.lengths.tolist()) == [1, *[25] * 11]
    assert stagewise_says("verify", "run")[0] == 0
    assert state(data) == before


def nan(path, value=np.nan):
    samples = noise()
    samples[777] = value
    soundfile.write(path, samples, RATE, subtype="FLOAT")


def inside(path):
    content = bytearray(wav(path, 30_000).read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)


DAMAGE = {
    "nan.wav": (nan, "data/nan.wav holds NaN or an infinity at sample 777. Replace the file"),
    "inf.wav": (lambda path: nan(path, np.inf), "data/inf.wav holds NaN or an infinity at sample 777. Replace"),
    "inside.flac": (inside, "cannot read data/inside.flac: the decoder says: "),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_that_only_reading_finds_stops_the_run_and_nothing_is_made_of_it(data, name):
    for number in range(6):
        wav(data / f"{number}.wav", seed=number)
    harm, words = DAMAGE[name]
    harm(data / name)
    code, said = run(AUDIO, 'data.bad_items="skip"')
    assert (code, words in said) == (1, True), said
    assert not list(Path("run").glob("stages/*/stage.json"))
    wav(data / name)
    assert run(AUDIO, 'data.bad_items="skip"')[0] == 0
    assert stagewise_says("verify", "run")[0] == 0


@pytest.mark.parametrize(
    ("kind", "size", "words"),
    [
        ("audio", 50, "no training item is long enough for a window of 16 rows"),
        ("audio", 1, "no training item is long enough for a window of 16 rows"),
        ("image", 12, "no training image holds a crop of 4 × 4 patches"),
    ],
)
def test_items_that_are_all_too_short(data, kind, size, words):
    text, suffix, make = MAKE[kind]
    for number in range(5):
        make(data / f"{number}{suffix}", size)
    code, said = run(text)
    assert (code, words in said, "--set" in said) == (1, True, True)
    assert not list(Path("run").glob("stages/*/encoder.safetensors"))


@pytest.mark.parametrize("kind", MAKE)
def test_no_item_and_one_item(data, kind):
    text, suffix, make = MAKE[kind]
    code, said = run(text)
    assert code == 1
    assert f"no {kind} files" in said
    assert "type --set data.root=FOLDER" in said
    assert not list(Path("run").glob("stages/*"))
    make(data / f"one{suffix}")
    assert run(text)[0] == 0  # of a batch of four
    assert len(stagewise.open("run").stages["one"].store) == 1


PROBE = '[[probe]]\nname = "p"\nstages = "all"\nlabels = "p"\npool = "mean"\nepochs = 1\n'


def test_a_label_table_that_lacks_items_says_how_many_it_has(data):
    for number in range(12):
        wav(data / f"{number:02d}.wav", seed=number)
    Path("p.csv").write_text("file,p\n" + "".join(f"{n:02d},{'ab'[n % 2]}\n" for n in range(8)))
    code, said = run(AUDIO + 'labels = { p = "p.csv" }\ntest_fraction = 0.5\n' + PROBE)
    assert code == 0, said
    (result,) = Path("run").glob("probes/*/probe.json")
    facts = json.loads(result.read_bytes())
    assert (facts["train_items"], facts["test_items"]) == (4, 4)


def test_a_label_table_that_says_two_things(data):
    for number in range(4):
        wav(data / f"{number}.wav", seed=number)
    labelled = AUDIO + 'labels = { p = "p.csv" }\n' + PROBE
    Path("p.csv").write_text("file,p\n0,a\n1.wav,b\n0.wav,b\n")
    code, said = run(labelled)
    assert (code, "p.csv:4: 0.wav is here a second time: delete one of the two lines." in said) == (1, True)
    wav(data / "1.flac")
    Path("p.csv").write_text("file,p\n0,a\n1,b\n")
    code, said = run(labelled)
    assert (code, "p.csv:3: 1 is the name of several files: write it with its suffix." in said) == (1, True)
    assert not list(Path("run").glob("stages/*"))


@contextlib.contextmanager
def unprivileged():
    """Be a user to whom permissions matter."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("kind", MAKE)
def test_folders_and_files_without_permission_are_named(monkeypatch, kind):
    text, suffix, make = MAKE[kind]
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is for its user alone
        Path(folder).chmod(0o755)
        monkeypatch.chdir(folder)
        for name in ("a", "b"):
            make(Path("data") / name / f"0{suffix}")
        assert run(text, verb=("plan",))[0] == 0  # and all is imported, wherever that lies
        for path, words in (
            (Path("data/a"), "cannot read data/a (Permission denied): correct data.root or its permissions."),
            (Path("data"), "cannot read data (Permission denied): correct data.root or its permissions."),
            (Path(f"data/b/0{suffix}"), f"  data/b/0{suffix}: Permission denied"),
        ):
            mode = path.stat().st_mode
            path.chmod(0)
            with unprivileged():
                code, said = stagewise_says("plan", "x.toml")
            path.chmod(mode)
            assert (code, words in said) == (1, True), said
        monkeypatch.undo()


@pytest.mark.parametrize("kind", MAKE)
def test_data_on_a_read_only_disk(data, kind):
    text, suffix, make = MAKE[kind]
    for number in range(5):
        make(data / f"{number}{suffix}", seed=number)
    mount = shutil.which("mount") and subprocess.run(["mount", "--bind", data, data], capture_output=True, check=False)
    if not mount or mount.returncode:
        pytest.skip("mounting takes root")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", data], check=True)
        with pytest.raises(OSError, match="Read-only"):
            (data / "new").touch()
        assert run(text)[0] == 0
        assert stagewise_says("verify", "run")[0] == 0
        assert stagewise_says("verify", "run", "--data")[0] == 0
    finally:
        subprocess.run(["umount", data], check=True)


def test_a_stream_that_never_knew_its_length_is_whole(data):
    """What a pipe writes says 4 GB, or 2 GB: it is as long as it is."""
    for name, size in (("ffmpeg", 0xFFFFFFFF), ("sox", 0x7FFFFFFF - 36)):
        buffer = io.BytesIO()
        soundfile.write(buffer, noise(), RATE, format="WAV", subtype="PCM_16")
        content = bytearray(buffer.getvalue())
        content[40:44] = struct.pack("<I", size)
        (data / f"{name}.wav").write_bytes(content)
    code, said = run(AUDIO)
    assert code == 0, said
    assert stagewise.open("run").stages["one"].store.lengths.tolist() == [199, 199]


def test_bytes_behind_a_whole_recording_and_a_padding_byte_that_is_counted_harm_nothing(data):
    soundfile.write(data / "tagged.ogg", noise(), RATE, format="OGG", subtype="VORBIS")
    (data / "tagged.ogg").write_bytes((data / "tagged.ogg").read_bytes() + b"TAG" + bytes(125))
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(), RATE, format="WAV", subtype="PCM_16")
    content = bytearray(buffer.getvalue())
    content[40:44] = struct.pack("<I", len(content) - 44 + 1)
    (data / "padded.wav").write_bytes(content)
    code, said = run(AUDIO)
    assert code == 0, said
    assert stagewise.open("run").stages["one"].store.lengths.tolist() == [199, 199]
