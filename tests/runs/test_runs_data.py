"""What a run says of its data: what was left out, and whether it is still what the run was made of."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

import stagewise
from stagewise import durable
from stagewise.cli.main import main
from stagewise.datasets.audio_folder import AudioFolder
from stagewise.errors import ConfigError, IntegrityError
from stagewise.runs.folder import ITEMS, LOCK_FILE

pytestmark = pytest.mark.usefixtures("no_peaks")

TOML = """\
format = 1
[pipeline]
name = "files"
[data]
target = "audio-folder"
root = "{root}"
bad_items = "skip"
[defaults.train]
epochs = 1
batch_size = 4
[defaults.objective]
steps = 2
negatives = 4
window = 16
[defaults.store]
write = true
dtype = "{dtype}"
[[stage]]
name = "one"
encoder = {{ target = "conv1d", in_channels = 1, out_channels = 8, kernel_size = 10, stride = 5, padding = 2 }}
"""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("recordings"), np.random.default_rng(0)
    for number in range(100):
        soundfile.write(root / f"{number:03}.wav", rng.normal(0, 0.1, 400).astype(np.float32), 16000, subtype="PCM_16")
    return root


def made(folder, root, dtype="int8"):
    (folder / "x.toml").write_text(TOML.format(root=root, dtype=dtype))
    stagewise.run(folder / "x.toml", run=folder / "run")
    return folder / "run"


def test_what_was_left_out_is_listed(recordings, tmp_path):
    shutil.copytree(recordings, tmp_path / "data")
    (tmp_path / "data" / "007.wav").write_bytes(b"no sound")
    shutil.copy(tmp_path / "data" / "008.wav", tmp_path / "data" / "008.xyz")
    run = made(tmp_path, tmp_path / "data")
    listed = json.loads((run / "data.json").read_bytes())
    assert (listed["items"], listed["samples"]) == (99, 99 * 400)
    ((key, reason),) = [(item["key"], item["reason"]) for item in listed["skipped"]]
    assert key == "007.wav"
    assert reason
    assert str(tmp_path) not in (run / "data.json").read_text()
    shown = CliRunner().invoke(main, ["inspect", str(run)]).stdout
    assert "1 file was left out, such as 007.wav" in " ".join(shown.split())
    assert listed["notes"] == ["left out by their suffix: 1 .xyz"]
    assert "left out by their suffix: 1 .xyz" in shown
    CliRunner().invoke(main, ["report", str(run), "--out", str(tmp_path / "report.html")])
    report = (tmp_path / "report.html").read_text()
    assert "1 file was left out of run:" in report
    assert "left out by their suffix: 1 .xyz" in report


def test_what_a_run_is_computed_with_is_said_once(recordings, tmp_path):
    (tmp_path / "x.toml").write_text(TOML.format(root=recordings, dtype="int8"))
    noted = []
    sets = {"pipeline.threads": 1, "defaults.train.precision": "bfloat16"}
    stagewise.run(
        tmp_path / "x.toml", tmp_path / "run", sets, report=lambda _, **facts: noted.append(facts.get("text"))
    )
    assert noted.count("computed on cpu with 1 thread, in bfloat16") == 1


PROBE = """\
[[probe]]
name = "kind"
stages = "all"
labels = "kind"
pool = "mean"
epochs = 1
data = {{ target = "audio-folder", root = "{root}", labels = {{ kind = "folder" }}, bad_items = 1 }}
"""


def test_what_was_left_out_of_the_data_of_a_probe_is_said_and_listed(recordings, tmp_path):
    for number in range(8):
        (tmp_path / "own" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        shutil.copy(recordings / f"00{number}.wav", tmp_path / "own" / "ab"[number % 2])
    (tmp_path / "own" / "a" / "bad.wav").write_bytes(b"no sound")
    (tmp_path / "own" / "b" / "more.m4a").touch()
    file, told = tmp_path / "x.toml", []
    file.write_text(TOML.format(root=recordings, dtype="int8") + PROBE.format(root=tmp_path / "own"))
    stagewise.run(file, run=tmp_path / "run", report=lambda kind, **facts: told.append(facts.get("text", "")))
    for words in (told, CliRunner().invoke(main, ["plan", str(file)]).stderr.splitlines()):
        (bad,) = [text for text in words if f"probe kind: left out {tmp_path}/own/a/bad.wav: " in text]
        assert "probe kind: left out by their suffix: 1 .m4a" in words
        assert len(bad) > len(f"probe kind: left out {tmp_path}/own/a/bad.wav: ")
    (skipped,) = json.loads((tmp_path / "run" / "data.json").read_bytes())["skipped"]
    assert skipped["key"] == "a/bad.wav (of the probe kind)"
    shown = CliRunner().invoke(main, ["inspect", str(tmp_path / "run")]).stdout
    assert "1 file was left out, such as a/bad.wav (of the probe kind)" in " ".join(shown.split())


@pytest.mark.parametrize(
    ("more", "advice"),
    [
        ("", ": data.test_fraction = 0 trains on them, too, and leaves none for probes that come later."),
        ('splits = { train = "train.txt", test = "test.txt" }', "."),
    ],
)
def test_items_that_are_kept_for_tests_that_nobody_makes_are_told(recordings, tmp_path, monkeypatch, more, advice):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.txt").write_text("".join(f"{number:03}\n" for number in range(80)))
    (tmp_path / "test.txt").write_text("".join(f"{number:03}\n" for number in range(80, 100)))
    file, told = tmp_path / "x.toml", []
    file.write_text(TOML.format(root=recordings, dtype="int8").replace('bad_items = "skip"', more))
    words = f"20 items are kept from training for tests, and no probe makes any{advice}"
    shown = " ".join(CliRunner().invoke(main, ["plan", str(file)]).stdout.split())
    assert "data: 100 items (80 to train on, 20 to test on), 40,000 samples" in shown
    assert f"warning: {words}" in shown
    stagewise.run(file, run=tmp_path / "run", report=lambda kind, **facts: told.append(facts.get("text", "")))
    assert words in told
    if not more:
        shown = CliRunner().invoke(main, ["plan", str(file), "--set", "data.test_fraction=0"]).stdout
        assert "data: 100 items (100 to train on, 0 to test on)" in " ".join(shown.split())
        assert "kept from training" not in shown


def test_a_damaged_data_record_is_named_and_written_again(recordings, tmp_path):
    run = made(tmp_path, recordings)
    before = (run / "data.json").read_bytes()
    (run / "data.json").write_bytes(before.replace(b"100", b"101"))
    with pytest.raises(IntegrityError, match=r"data.json is damaged"):
        stagewise.open(run).facts  # noqa: B018
    stagewise.run(tmp_path / "x.toml", run=run)
    assert (run / "data.json").read_bytes() == before


@pytest.mark.parametrize("dtype", ["int8", "float16", "float32"])
def test_a_file_of_the_same_size_is_noticed(recordings, tmp_path, dtype):
    shutil.copytree(recordings, tmp_path / "data")
    run = made(tmp_path, tmp_path / "data", dtype)
    verify = ["verify", str(run), "--data"]
    calm = CliRunner().invoke(main, verify)
    assert (calm.exit_code, "the data is what the run was made of" in calm.stdout) == (0, True)
    shutil.copyfile(tmp_path / "data" / "011.wav", tmp_path / "data" / "042.wav")
    assert CliRunner().invoke(main, ["verify", str(run)]).exit_code == 0
    found = CliRunner().invoke(main, verify)
    assert found.exit_code == 3
    assert "042.wav is not the file that stage one was made of" in found.stderr
    assert "not what the run was made of: 1 difference" in found.stderr


@pytest.mark.parametrize("own", [False, True], ids=["of the data", "of a probe's own data"])
def test_a_label_that_changed_is_noticed(recordings, tmp_path, own):
    table = tmp_path / "kinds.csv"
    lines = [f"{number:03}.wav,{'ab'[number % 2]}" for number in range(100)]
    table.write_text("\n".join(["file,kind", *lines]) + "\n")
    labels = f'labels = {{ kind = "{table}" }}'
    text, probe = TOML.format(root=recordings, dtype="int8"), PROBE.format(root=recordings)
    if own:
        probe = probe.replace('labels = { kind = "folder" }', labels)
    else:
        text = text.replace("[defaults.train]", f"{labels}\n[defaults.train]", 1)
        probe = probe.partition("data = ")[0]
    (tmp_path / "x.toml").write_text(text + probe)
    stagewise.run(tmp_path / "x.toml", run=tmp_path / "run")
    verify = ["verify", str(tmp_path / "run"), "--data"]
    assert CliRunner().invoke(main, verify).exit_code == 0
    table.write_text(table.read_text().replace("042.wav,a", "042.wav,b"))
    found = CliRunner().invoke(main, verify)
    name = "kind (of the probe kind)" if own else "kind"
    assert (found.exit_code, f"label {name} is another: items have other classes" in found.stderr) == (3, True)
    assert "not what the run was made of: 1 difference." in found.stderr
    stagewise.run(tmp_path / "x.toml", run=tmp_path / "run")
    assert CliRunner().invoke(main, verify).exit_code == 0


def test_without_a_store_nothing_can_be_compared(recordings, tmp_path):
    (tmp_path / "x.toml").write_text(
        TOML.format(root=recordings, dtype="int8").replace("write = true", "write = false")
    )
    stagewise.run(tmp_path / "x.toml", run=tmp_path / "run")
    found = CliRunner().invoke(main, ["verify", str(tmp_path / "run"), "--data"])
    assert (found.exit_code, "has no store that the data could be compared with" in found.stderr) == (2, True)


def test_every_item_that_changed_is_named(recordings, tmp_path):
    shutil.copytree(recordings, tmp_path / "data")
    run, data = made(tmp_path, tmp_path / "data"), tmp_path / "data"
    (data / "003.wav").unlink()
    (data / "004.wav").write_bytes(b"no sound")
    soundfile.write(data / "005.wav", np.zeros(500), 16000, subtype="PCM_16")
    shutil.copyfile(data / "011.wav", data / "042.wav")
    shutil.copyfile(data / "011.wav", data / "new.wav")
    found = CliRunner().invoke(main, ["verify", str(run), "--data"])
    assert found.exit_code == 3
    for words in (
        "003.wav is not there any more. Put the old files back",
        "004.wav cannot be used any more (",
        "005.wav is another: it is 500 long, and was 400",
        "new.wav was not there when the run was made",
        "042.wav is not the file that stage one was made of",
        "not what the run was made of: 5 differences",
    ):
        assert words in found.stderr


def test_without_keys_the_change_is_said_alone(recordings, tmp_path):
    shutil.copytree(recordings, tmp_path / "data")
    run = made(tmp_path, tmp_path / "data")
    forget_items(run)
    assert CliRunner().invoke(main, ["verify", str(run), "--data"]).exit_code == 0
    (tmp_path / "data" / "003.wav").unlink()
    found = CliRunner().invoke(main, ["verify", str(run), "--data"])
    assert (found.exit_code, "(100 items then, 99 now), and the run is older" in found.stderr) == (3, True)


def test_a_file_of_the_same_samples_and_another_size(recordings, tmp_path):
    shutil.copytree(recordings, tmp_path / "data")
    run = made(tmp_path, tmp_path / "data")
    samples, _ = soundfile.read(tmp_path / "data" / "003.wav", dtype="float32")
    soundfile.write(tmp_path / "data" / "003.wav", samples, 16000, subtype="FLOAT")
    found = CliRunner().invoke(main, ["verify", str(run), "--data"])
    assert (found.exit_code, "is another, though all items give the same rows" in found.stderr) == (3, True)


def test_an_item_that_is_for_testing_now(recordings, tmp_path):
    shutil.copytree(recordings, tmp_path / "data")
    names = [f"{number:03}.wav" for number in range(100)]
    for part, chosen in (("train", names[:80]), ("test", names[80:])):
        (tmp_path / f"{part}.txt").write_text("\n".join(chosen))
    text = TOML.format(root=tmp_path / "data", dtype="int8")
    splits = {f"data.splits.{part}": str(tmp_path / f"{part}.txt") for part in ("train", "test")}
    (tmp_path / "x.toml").write_text(text)
    run = tmp_path / "run"
    stagewise.run(tmp_path / "x.toml", run=run, set=splits)
    for part, chosen in (("train", [*names[:79], names[80]]), ("test", [names[79], *names[81:]])):
        (tmp_path / f"{part}.txt").write_text("\n".join(chosen))
    found = CliRunner().invoke(main, ["verify", str(run), "--data"])
    assert found.exit_code == 3
    assert "079.wav is for testing now, and was not" in found.stderr
    assert "080.wav was for testing, and is not now" in found.stderr


def forget_items(run):
    """Make a run one that is older than its items.csv."""
    locked = durable.read_sealed(run / LOCK_FILE, "")
    locked.pop("items")
    durable.write_sealed(run / LOCK_FILE, locked)
    (run / ITEMS).unlink()


def test_a_store_knows_its_items_and_what_they_were_for(recordings, tmp_path):
    shutil.copytree(recordings, tmp_path / "data")
    shutil.move(tmp_path / "data" / "007.wav", tmp_path / 'data/a, "b" ü.wav')
    run = made(tmp_path, tmp_path / "data")
    store = stagewise.open(run).stages["one"].store
    dataset = AudioFolder(str(tmp_path / "data"))
    assert list(store.keys) == list(dataset.keys)
    words = store.splits
    assert np.flatnonzero(words == "test").tolist() == dataset.split("test").tolist()
    assert (words == "validation").sum() == round(0.05 * len(dataset.split("train")))
    assert set(words) == {"train", "validation", "test"}
    with (run / "items.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["key"] for line in lines] == list(dataset.keys)
    assert [line["split"] for line in lines] == words.tolist()
    assert {line["length"] for line in lines} == {"400"}


def test_items_that_are_damaged_or_were_never_kept(recordings, tmp_path):
    run = made(tmp_path, recordings)
    before = (run / "items.csv").read_bytes()
    (run / "items.csv").write_bytes(before.replace(b"007.wav", b"008.wav"))
    damaged = CliRunner().invoke(main, ["verify", str(run)])
    assert (damaged.exit_code, "items.csv is not what was written. Type `stagewise run" in damaged.stderr) == (3, True)
    with pytest.raises(IntegrityError, match=r"items.csv is not what was written"):
        stagewise.open(run).stages["one"].store.keys  # noqa: B018
    (run / "items.csv").unlink()
    with pytest.raises(IntegrityError, match=r"items.csv is missing"):
        stagewise.open(run).stages["one"].store.splits  # noqa: B018
    stagewise.run(tmp_path / "x.toml", run=run)
    assert (run / "items.csv").read_bytes() == before
    forget_items(run)
    old = stagewise.open(run).stages["one"].store
    with pytest.raises(ConfigError, match="was made before the keys of items were kept. Type `stagewise run FILE`"):
        old.keys  # noqa: B018
    assert len(old) == 100
    stagewise.run(tmp_path / "x.toml", run=run)
    assert stagewise.open(run).stages["one"].store.keys[7] == "007.wav"
    for text, words in (
        ("key,length,split\n", "is of 0 items, the store of 100"),
        ("key,length,split\na,x,test\n", "is damaged (ValueError: invalid literal"),
        ("key,length,split\na," + 40 * "9" + ",test\n", "is damaged (OverflowError"),
        ("key,length,split\na,1\n", "is damaged (ValueError: zip"),
        ("key,length\na,1\n", "is damaged (KeyError: 'split')"),
        ("", "is damaged (ValueError: not enough"),
        ('"' + "x" * 200_000, "is damaged (Error: field larger"),
    ):
        (run / "items.csv").write_text(text)
        digest = durable.sha256_of(run / "items.csv")
        durable.write_sealed(run / LOCK_FILE, durable.read_sealed(run / LOCK_FILE, "") | {"items": digest})
        with pytest.raises(IntegrityError, match=re.escape(f"items.csv {words}")):
            stagewise.open(run).stages["one"].store.keys  # noqa: B018
