"""A folder becomes a pipeline file that loads and is planned as it stands."""

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from small_files import png, wav

from stagewise.cli.main import main
from stagewise.datasets.files import find
from stagewise.errors import ConfigError, DataError
from stagewise.pipeline import load_pipeline
from stagewise.planning.duration import estimate
from stagewise.planning.facts import plan_facts
from stagewise.runner import plan_pipeline
from stagewise.runs.folder import RunFolder
from stagewise.starting import write as writing
from stagewise.starting.audio import audio_recipe
from stagewise.starting.choose import BUDGET, Pace, encoded
from stagewise.starting.images import images_recipe
from stagewise.starting.recipe import Machine, comment, this_machine, toml
from stagewise.starting.survey import facts, look, tells_apart, words
from stagewise.starting.write import start
from stagewise.text import about_text

CPU = Machine(None, 8 << 30, 50_000_000_000, 2)
GPU = Machine("a GPU", 80 << 30, 50_000_000_000, 16)


def made(folder: Path, kind, machine=CPU):
    """Choose a file, write it, and load and plan it as anybody would; returns its content and the plan."""
    file = folder.parent / "made.toml"
    text, plan = start(look(find(folder), kind), machine, "made", file)
    file.write_bytes(encoded(text))
    again = plan_pipeline(load_pipeline(file), RunFolder(folder.parent / "runs"))
    assert again.data.fingerprint() == plan.data.fingerprint()
    assert [s.action for s in again.stages] == ["train"] * len(again.stages)
    assert [s.forecast for s in again.stages] == [s.forecast for s in plan.stages]
    assert not (folder.parent / "runs").exists()
    return tomllib.loads(text), plan


def test_stereo_wav_files_of_44100_hz(tmp_path, no_peaks_here):
    for voice in ("a", "b"):
        for number in range(3):
            wav(tmp_path / "in" / voice / f"{number}.wav", 2.0, 44_100, 2)
    content, plan = made(tmp_path / "in", "audio")
    assert content["data"].pop("std") == pytest.approx(
        0.1 * (16 / 44.1 / 2) ** 0.5, rel=0.05
    )  # two channels, fewer pitches
    assert content["data"].pop("mean") == pytest.approx(0, abs=0.01)
    assert content["data"] == {
        "target": "audio-folder",
        "root": str(tmp_path / "in"),
        "labels": {"class": "folder"},
        "sample_rate": 16_000,
        "resample": True,
        "mono": True,
    }
    assert [stage["name"] for stage in content["stage"]] == ["mel", "conv1", "conv2", "context"]
    assert content["stage"][1]["encoder"]["out_channels"] == 256
    assert content["probe"][0]["labels"] == "class"
    assert len(plan.data) == 6


def test_files_of_a_low_rate_in_a_flat_folder_keep_their_rate_and_get_a_window_that_fits(tmp_path):
    for number in range(4):
        wav(tmp_path / "in" / f"{number}.wav", 0.8, 8_000)
    content, plan = made(tmp_path / "in", "audio")
    assert content["data"].pop("std") == pytest.approx(0.1, rel=0.05)  # as loud as what lies there
    assert content["data"].pop("mean") == pytest.approx(0, abs=0.01)
    assert content["data"] == {"target": "audio-folder", "root": str(tmp_path / "in"), "sample_rate": 8_000}
    assert content["defaults"]["objective"]["window"] == 64
    assert "probe" not in content
    assert plan.data.sample_rate == 8_000


def test_files_that_are_all_too_short_are_refused(tmp_path):
    wav(tmp_path / "in" / "a.wav", 0.005)
    with pytest.raises(DataError, match=r"the longest file has 0.005 s, and training needs 0.078 s"):
        made(tmp_path / "in", "audio")


def test_the_layout_of_librispeech_below_its_folders(tmp_path, no_peaks_here):
    for speaker in ("12", "34"):
        for number in range(2):
            wav(tmp_path / "in/LibriSpeech/dev-clean" / speaker / "5" / f"{speaker}-5-000{number}.flac", 1.5)
    wav(tmp_path / "in" / "stray.wav", 1.0, 44_100)
    content, plan = made(tmp_path / "in", "audio")
    assert content["data"] == {"target": "librispeech", "root": str(tmp_path / "in/LibriSpeech/dev-clean")}
    assert content["probe"][0]["labels"] == "speaker"
    assert len(plan.data) == 4


def test_what_is_not_in_the_layout_of_librispeech_is_named(tmp_path):
    for part, count in (("train", 3), ("dev", 1)):
        for speaker in ("12", "34"):
            for number in range(count):
                wav(tmp_path / "in" / part / speaker / "5" / f"{speaker}-5-000{number}.flac", 1.5)
    wav(tmp_path / "in" / "more" / "a.wav", 1.0)
    root = tmp_path / "in"
    notes = audio_recipe(look(find(root), "audio"), gpu=False).notes
    assert notes[0] == (
        f"not used, as they do not lie as SPEAKER/CHAPTER/SPEAKER-CHAPTER-UTTERANCE below {root}/train: 3 audio files, "
        f'such as dev/12/5/12-5-0000.flac; data.target = "audio-folder" with data.root = "{root}" takes all'
    )


def test_real_librispeech(shared):
    content = look(find(shared / "librispeech-sample"), "audio")
    recipe = audio_recipe(content, gpu=True)
    folder = shared / "librispeech-sample"
    assert {key: value for key, value, _ in recipe.data} == {
        "target": "librispeech",
        "root": str(folder),
        "splits": {"train": str(folder / "train.txt"), "test": str(folder / "test.txt")},
        "phones": str(folder / "phone_alignment.txt"),
    }
    assert set(recipe.labels) == {"speaker"}
    assert recipe.stages[0][1][1]["out_channels"] == 512


def test_images_of_one_size_in_folders_of_classes(tmp_path):
    for number in range(6):
        png(tmp_path / "in" / "ab"[number % 2] / f"{number}.png", 96, 96)
    content, plan = made(tmp_path / "in", "images")
    assert "size" not in content["data"]
    assert (content["data"]["patch"], content["data"]["crop"]) == (16, 64)
    assert content["probe"][0].items() >= {"name": "class", "stages": "all", "labels": "class", "pool": "mean"}.items()
    assert plan.data.crop == (7, 7)
    assert [stage.policy.write for stage in plan.stages] == [False, False, True]
    stored = sum(stage.store_bytes() for stage in plan.stages if stage.policy.write)
    assert stored < 96 * 96 * len(plan.data) * 2  # of the pixels; patches of the lower modules take 160 times as much


@pytest.mark.parametrize(
    ("sizes", "size", "patch"),
    [
        ([(50, 70), (300, 200), (64, 64)], 64, 8),
        ([(28, 28)], 40, 8),
        ([(500, 700)], 96, 16),
    ],
)
def test_images_of_other_sizes_are_resized_and_their_patches_suit(tmp_path, sizes, size, patch, no_peaks_here):
    for number in range(6):
        png(tmp_path / "in" / f"{number}.png", *sizes[number % len(sizes)])
    recipe = images_recipe(look(find(tmp_path / "in"), "images"), gpu=False)
    data = {key: value for key, value, _ in recipe.data}
    assert (data["size"], data["patch"], data["crop"]) == (size, patch, 4 * patch)
    assert not recipe.labels
    if len(sizes) > 1:
        _, plan = made(tmp_path / "in", "images")
        assert len(plan.data.pool()) == 5  # a fifth is for testing


@pytest.mark.parametrize(
    ("modes", "colour", "said"),
    [(["L", "1", "I;16", "LA"], "none", False), (["L", "RGB"], "1 of 2", True), (["RGB", "P", "RGBA"], "all", True)],
)
def test_whether_images_have_colours_is_said(tmp_path, modes, colour, said):
    (tmp_path / "in").mkdir()
    for number, mode in enumerate(modes):
        Image.new(mode, (50, 50)).save(tmp_path / "in" / f"{number}.png")
    content = look(find(tmp_path / "in"), "images")
    assert f"in colour: {colour}" in words(facts(content))
    why = next(why for key, _, why in images_recipe(content, gpu=False).data if key == "grayscale")
    assert ("though there are colours" in why) == said


def test_folders_of_training_and_test_images(tmp_path, no_peaks_here):
    for part, count in (("train", 4), ("test", 2), ("validation", 1)):
        for number in range(count):
            png(tmp_path / "in" / part / "ab"[number % 2] / f"{number}.png", 48, 48)
    content, plan = made(tmp_path / "in", "images")
    assert content["data"]["root"] == str(tmp_path / "in" / "train")
    assert content["data"]["test"] == str(tmp_path / "in" / "test")
    assert len(plan.data.split("test")) == 2


def test_images_beside_the_folders_of_training_and_test_are_named(tmp_path):
    for name in ("train/a/0", "train/a/1", "train/b/2", "train/b/3", "test/a/4", "test/b/5", "6", "7"):
        png(tmp_path / "in" / f"{name}.png", 48, 48)
    made = images_recipe(look(find(tmp_path / "in"), "images"), gpu=False)
    assert made.items == 6
    assert "2 images beside train and test, such as 6.png: not used; put them into train or test" in made.notes


def test_a_bad_file_in_a_hundred_is_left_out_and_more_are_named(tmp_path, no_peaks_here):
    for number in range(110):
        wav(tmp_path / "in" / f"{number}.wav", 0.3)
    (tmp_path / "in" / "broken.wav").write_bytes(b"no sound")
    content, plan = made(tmp_path / "in", "audio")
    assert content["data"]["bad_items"] == "skip"
    assert [item.key for item in plan.data.bad] == ["broken.wav"]
    (tmp_path / "in" / "empty.wav").touch()
    with pytest.raises(DataError, match=r"(?s)2 of 112 audio files.*broken.wav.*empty.wav: the file is empty"):
        made(tmp_path / "in", "audio")


def test_a_bad_image_is_named(tmp_path):
    png(tmp_path / "in" / "a.png", 50, 50)
    (tmp_path / "in" / "b.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"(?s)1 of 2 image files cannot be used:.*b.png"):
        images_recipe(look(find(tmp_path / "in"), "images"), gpu=False)


def test_a_folder_of_nothing_and_one_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"no audio files .* and no images .* below .*: name the folder"):
        find(tmp_path)
    with pytest.raises(ConfigError, match="missing is not there"):
        find(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file is a file, no folder"):
        find(tmp_path / "file")


def test_both_kinds_are_found_and_the_more_frequent_one_comes_first(tmp_path):
    wav(tmp_path / "a.WAV", 0.1)
    png(tmp_path / "b.png", 8, 8)
    png(tmp_path / "c.PNG", 8, 8)
    found = find(tmp_path)
    assert found.kinds == ["images", "audio"]
    assert found.names == {"audio": ["a.WAV"], "images": ["b.png", "c.PNG"]}


@pytest.mark.slow
def test_a_machine_with_little_memory_gets_a_limit_that_is_met(tmp_path):
    for number in range(3):
        png(tmp_path / "in" / f"{number}.png", 96, 96)
    content, plan = made(tmp_path / "in", "images")
    assert "memory_limit" not in content["pipeline"]
    peak = max(stage.forecast.bytes.peak for stage in plan.stages)
    content, plan = made(tmp_path / "in", "images", Machine(None, int(1.6 * peak), 10**9, 1))  # half of it: 0.8
    assert content["pipeline"]["memory_limit"].endswith("MiB")
    assert max(stage.forecast.bytes.peak for stage in plan.stages) <= 0.8 * peak
    assert max(stage.forecast.pieces for stage in plan.stages) > 1


def test_stores_take_a_quarter_of_the_free_disk_at_most_and_the_file_says_so(tmp_path, no_peaks_here):
    for number in range(4):
        wav(tmp_path / "in" / f"{number}.wav", 2.0)
    content, plan = made(tmp_path / "in", "audio")
    assert "disk_limit" not in content["pipeline"]
    wanted = sum(stage.store_bytes() for stage in plan.stages if stage.policy.write)
    content, plan = made(tmp_path / "in", "audio", Machine(None, 8 << 30, 2 * wanted, 2))
    assert content["pipeline"]["disk_limit"].endswith("KiB")
    stored = sum(stage.store_bytes() for stage in plan.stages if stage.policy.write)
    assert 0 < stored <= 0.7 * wanted  # of which zstd leaves less


def test_the_file_says_what_its_time_assumes(tmp_path, no_peaks_here):
    for number in range(4):
        wav(tmp_path / "in" / f"{number}.wav", 2.0)
        png(tmp_path / "in" / f"{number}.png", 40, 40)
    for kind, stages in (("audio", 4), ("images", 3)):
        text, _ = start(look(find(tmp_path / "in"), kind), CPU, "made", tmp_path / "made.toml")
        content, words = tomllib.loads(text), " ".join(text.replace("\n# ", " ").split())
        train = content["defaults"]["train"]
        assert f"At most {train['epochs']:,} epochs of each of the {stages} stages" in words
        stops = f"a stage stops earlier, after {train['patience']} epochs without a better validation loss"
        assert (stops in words) == (kind == "images")
        assert (train["patience"] == train["epochs"], "schedule" in train) == (kind == "audio",) * 2


def test_names_that_toml_could_misread(tmp_path, no_peaks_here):
    hostile = 'a "quoted"\\ folder # with\ttab\x7f and é'
    for number in range(2):
        wav(tmp_path / hostile / f"{number}.wav", 0.3)
    content, _ = made(tmp_path / hostile, "audio")
    assert content["data"]["root"] == str(tmp_path / hostile)
    assert comment("a\nb\x00c") == "a b c"
    with pytest.raises(ConfigError, match="not UTF-8"):
        encoded("\udc80")


@pytest.mark.parametrize(
    "value", [True, 'a\nb"c\\\x7f\x01', 3, 0.5, 2e-4, [1, "x"], {"a": {"b": [False]}}], ids=lambda value: repr(value)
)
def test_values_are_written_as_toml_reads_them(value):
    assert tomllib.loads(f"key = {toml(value)}") == {"key": value}


def test_labels_need_two_classes_of_two():
    from collections import Counter

    assert tells_apart(Counter("aabb"))
    assert not tells_apart(Counter("aabcd"))


def test_this_machine_has_memory_and_threads():
    machine = this_machine()
    assert machine.memory > 0
    assert machine.threads >= 1
    assert "memory" in machine.words


def test_a_window_that_few_items_fill_makes_no_training_of_days(tmp_path, monkeypatch, no_peaks_here):
    """The top's window fits into one file alone; the stages below take all of them, in every epoch."""
    for number in range(40):
        wav(tmp_path / "in" / f"{number}.wav", 3.0 if number == 7 else 0.9, 8_000)
    monkeypatch.setattr(writing, "pace", lambda plan, budget: Pace(1000, 10, 5000, 1, 50, budget=budget))
    text, plan = start(look(find(tmp_path / "in"), "audio"), CPU, "made", tmp_path / "made.toml")
    told = estimate(plan)
    assert sum(stage.train for stage in told.stages) < 1.2 * BUDGET
    assert 0 < tomllib.loads(text)["defaults"]["train"]["epochs"] < 1000
    comments = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("#"))
    assert f"the encoding and the probes are estimated at {about_text(told.seconds)} on this machine" in comments
    assert plan_facts(plan)["time"]["seconds"] == round(told.seconds, 1)


@pytest.mark.parametrize(
    ("typed", "seconds", "aim"),
    [("10 min", 600, "10 minutes"), ("1 hour", 3600, "60 minutes"), ("3 h", 10_800, "3 hours")],
)
def test_the_time_that_is_typed_is_aimed_at(tmp_path, monkeypatch, typed, seconds, aim):
    for number in range(6):
        wav(tmp_path / "in" / f"{number}.wav", 20.0)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["init", "in", "--time", typed])
    assert result.exit_code == 0, result.output
    text = Path("in.toml").read_text()
    assert f"aim is {aim} at most" in " ".join(text.replace("\n# ", " ").split())
    assert estimate(plan_pipeline(load_pipeline(Path("in.toml")), RunFolder(Path("run")))).seconds <= 1.2 * seconds


@pytest.mark.parametrize(("typed", "words"), [("soon", "is not a duration"), ("5 s", "a minute is the least")])
def test_a_time_that_is_none_is_refused(tmp_path, monkeypatch, typed, words):
    monkeypatch.chdir(tmp_path)
    wav(tmp_path / "in" / "a.wav", 2.0)
    result = CliRunner().invoke(main, ["init", "in", "--time", typed])
    assert (result.exit_code, words in " ".join(result.output.split())) == (2, True), result.output
    assert not Path("in.toml").exists()


def test_parts_of_a_data_set_are_known_in_capitals_too(tmp_path, no_peaks_here):
    for number in range(4):
        for part in ("Train", "TEST"):
            png(tmp_path / "in" / part / "ab"[number % 2] / f"{number}.png", 40, 40)
    content, plan = made(tmp_path / "in", "images")
    assert content["data"]["root"] == str(tmp_path / "in" / "Train")
    assert content["data"]["test"] == str(tmp_path / "in" / "TEST")
    assert len(plan.data.split("test")) == 4


@pytest.mark.parametrize(
    ("parts", "words"),
    [(["train", "test"], "test, train: train and test are chosen file by file"), (["train", "x"], "train are classes")],
)
def test_parts_of_recordings_that_are_not_taken_as_such_are_said(tmp_path, no_peaks_here, parts, words):
    for number in range(4):
        for part in parts:
            wav(tmp_path / "in" / part / f"{number}.wav", 1.0)
    told = []
    start(
        look(find(tmp_path / "in"), "audio"), CPU, "made", tmp_path / "x.toml", lambda kind, **facts: told.append(facts)
    )
    assert any(words in str(each.get("text")) for each in told), told
