"""Fitted probes: what they said of the test items is kept, and of the same files they say it again."""

import csv
import json
from collections import Counter

import embedding_examples as examples
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

import stagewise
from stagewise import durable
from stagewise.cli.main import main
from stagewise.datasets.labels import frame_count
from stagewise.errors import ConfigError, IntegrityError

pytestmark = pytest.mark.usefixtures("no_peaks")

PHONES = '[[probe]]\nname = "phones"\nstages = ["context"]\nlabels = "phones"\nepochs = 2\n'
KEEP = "[defaults.store]\n"


def call(*words, code=0):
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two voices, a label an item and one a frame; stores of float32."""
    folder = tmp_path_factory.mktemp("fitted")
    rng, lines = np.random.default_rng(0), []
    for number in range(16):
        path = folder / "audio" / "ab"[number % 2] / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = examples.noise(0.2 + 0.01 * number, number) * (1 + 2 * (number % 2))
        soundfile.write(path, samples, examples.RATE, subtype="FLOAT")
        frames = rng.integers(0, 3, frame_count(len(samples)))
        lines.append(f"{'ab'[number % 2]}/{number} {' '.join(map(str, frames))}")
    (folder / "phones.txt").write_text("\n".join(lines) + "\n")
    text = examples.AUDIO.replace("ROOT", str(folder / "audio")).replace("epochs = 0", "epochs = 20\nrandom = true")
    text = text.replace(KEEP, PHONES + KEEP).replace("labels = {", f'phones = "{folder / "phones.txt"}"\nlabels = {{')
    (folder / "tiny.toml").write_text(text)
    stagewise.run(folder / "tiny.toml", run=folder / "run", set={"defaults.train.epochs": 1})
    return stagewise.open(folder / "run")


@pytest.fixture
def audio(run):
    return run.path.parent / "audio"


def test_it_says_of_the_test_items_again_what_it_said(run, audio):
    probe = run.probe("speaker")
    assert (probe.stage, probe.of_items) == ("context", True)
    tested = list(probe.predictions())
    assert len(tested) == probe.result["test_items"]
    assert np.mean([line["label"] == line["predicted"] for line in tested]) == probe.result["value"]
    said = list(probe.predict([audio / line["key"] for line in tested]))
    assert [(line["key"], line["predicted"]) for line in said] == [
        (str(audio / line["key"]), line["predicted"]) for line in tested
    ]
    for line, before in zip(said, tested, strict=True):
        assert line["probability"] == pytest.approx(before["probability"], abs=1e-5)


def test_of_rows_one_line_a_row_and_where_it_is(run, audio):
    probe = run.probe("phones")
    assert not probe.of_items
    tested = list(probe.predictions())
    key = tested[0]["key"]
    said = {line["row"]: line for line in probe.predict([audio / key])}
    assert list(said) == list(range(len(run.embed([audio / key])[str(audio / key)])))
    mine = [line for line in tested if line["key"] == key]
    assert len(mine) > 5
    for line in mine:
        assert line["predicted"] == said[line["row"]]["predicted"]
        assert line["probability"] == pytest.approx(said[line["row"]]["probability"], abs=1e-5)
    encoder = run.encoder("context")
    assert said[3]["seconds"] == pytest.approx((encoder.geometry.centre + 3 * encoder.hop) / 16_000, abs=1e-4)


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_predictions_of_all_stages_are_written(run, tmp_path, suffix):
    out = tmp_path / f"said{suffix}"
    done = call("probe", "speaker", "--run", run.path, "--predictions", out)
    rows = json.loads(out.read_text()) if suffix == ".json" else list(csv.DictReader(out.read_text().splitlines()))
    assert done.stdout == f"{out}: {len(rows)} lines\n"
    assert list(rows[0]) == ["stage", "weights", "key", "label", "predicted", "probability"]
    items = run.probe("speaker").result["test_items"]
    counts = Counter((row["stage"], row["weights"]) for row in rows)
    assert counts == {
        (stage, weights): items for stage in ("one", "two", "context") for weights in ("trained", "before training")
    }
    for probe in run.facts["probes"]:
        if probe["name"] == "speaker":
            for weights, value in (("trained", probe["value"]), ("before training", probe["random"]["value"])):
                mine = [r for r in rows if (r["stage"], r["weights"]) == (probe["stage"], weights)]
                assert np.mean([r["label"] == r["predicted"] for r in mine]) == value
    before = out.read_bytes()
    refused = call("probe", "speaker", "--run", run.path, "--predictions", out, code=2).stderr
    assert f"--predictions {out} is there already" in " ".join(refused.split())
    call("probe", "speaker", "--run", run.path, "--predictions", out, "--force")
    assert out.read_bytes() == before
    if suffix == ".csv":
        call("probe", "phones", "--run", run.path, "--predictions", tmp_path / "rows.csv")
        assert (tmp_path / "rows.csv").read_text().startswith("stage,weights,key,row,label,predicted,probability\n")


def test_predict_at_the_terminal(run, audio, tmp_path):
    files = [audio / "a/0.wav", audio / "b/1.wav"]
    (tmp_path / "c").mkdir()
    said = call("predict", run.path, *files, "--probe", "speaker", "--stage", "two")
    expected = list(run.probe("speaker", "two").predict(files))
    lines = "".join(said.stdout.split())
    for line in expected:
        assert f"{line['predicted']}{line['probability']:.3f}" in lines
    assert f"probe speaker on stage two of {run.path}" in said.stderr
    facts = json.loads(call("predict", run.path, *files, "--probe", "speaker", "--stage", "two", "--json").stdout)
    assert (facts["probe"], facts["stage"], facts["classes"]) == ("speaker", "two", ["a", "b"])
    assert facts["predictions"] == expected
    out = tmp_path / "said.csv"
    call("predict", run.path, audio, "--probe", "phones", "--out", out)
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert list(rows[0]) == ["key", "row", "seconds", "predicted", "probability"]
    assert len({row["key"] for row in rows}) == 16
    table = call("predict", run.path, files[0], "--probe", "phones").stdout
    most, count = Counter(row["predicted"] for row in rows if row["key"] == str(files[0])).most_common(1)[0]
    assert "share of rows" in table
    assert f"{count / sum(row['key'] == str(files[0]) for row in rows):.3f}" in table
    assert most in table


def test_predict_warns_of_a_probe_that_knows_nothing(run, audio):
    (words,) = [each["words"] for each in run.facts["probes"] if each["name"] == "phones"]  # drawn at random
    assert "better than always saying one class" in words
    said = call("predict", run.path, audio / "a/0.wav", "--probe", "phones").stderr
    assert f"warning: probe phones on context is {words}: " in " ".join(said.split())
    assert "warning" not in call("predict", run.path, audio / "a/0.wav", "--probe", "speaker").stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "has several probes: name one of them, speaker, phones."),
        (["--probe", "sex"], "has no probe 'sex'; it has speaker, phones."),
        (["--probe", "phones", "--stage", "one"], "reads context, not one."),
        (["--probe", "speaker", "--out", "x.txt"], "x.txt: the file's name must end in .csv or .json."),
        (
            ["--probe", "speaker", "--out", "x.json", "--json"],
            "--json prints what --out would write: leave one of them",
        ),
    ],
)
def test_what_is_not_there_is_said(run, audio, words, said):
    assert said in call("predict", run.path, audio, *words, code=2).stderr


def test_an_export_has_no_probes(run, audio, tmp_path):
    (tmp_path / "e").mkdir()
    (tmp_path / "e/README.md").write_text("A frozen encoder, made with stagewise")
    assert "is an export, and probes stay with their run" in call("predict", tmp_path / "e", audio, code=2).stderr


def test_a_probe_that_is_not_fitted_or_kept_nothing(run, audio, monkeypatch):
    probe = run.probe("phones")
    old = {key: value for key, value in probe.result.items() if key not in ("predictions", "class_names")}
    monkeypatch.setattr("stagewise.frozen.open.read_probe", lambda *_: old)
    with pytest.raises(ConfigError, match="older version, which kept no predictions: type `stagewise probe phones"):
        run.probe("phones").predictions()
    with pytest.raises(ConfigError, match="older version, which kept no names of classes: type `stagewise probe pho"):
        next(run.probe("phones").predict([audio]))
    assert "kept no names of classes" in call("predict", run.path, audio, "--probe", "phones", code=2).stderr
    monkeypatch.setattr("stagewise.frozen.open.read_probe", lambda *_: None)
    with pytest.raises(ConfigError, match="probe phones on context is not fitted yet: type `stagewise probe phones"):
        run.probe("phones")


def test_a_damaged_probe_is_not_used(run, audio, monkeypatch):
    probe = run.probe("phones")
    monkeypatch.setattr(durable, "sha256_of", lambda _: "0" * 64)
    with pytest.raises(IntegrityError, match="probe.safetensors is not what was written"):
        next(probe._reader()(np.zeros((1, 6), np.float32)))


def test_of_images_the_centre_is_read(tmp_path):
    root = examples.image_run(tmp_path)
    probe = stagewise.open(tmp_path / "run").probe()
    tested = list(probe.predictions())
    said = list(probe.predict([root / line["key"] for line in tested]))
    assert [line["predicted"] for line in said] == [line["predicted"] for line in tested]
    for line, before in zip(said, tested, strict=True):
        assert line["probability"] == pytest.approx(before["probability"], abs=0.02)  # of an int8 store
