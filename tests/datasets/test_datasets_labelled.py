"""plan, run and inspect say of every label how many items have one, what names no item, and what cannot be right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from click.testing import CliRunner
from small_data import InMemory
from small_files import wav

from stagewise.cli.main import main
from stagewise.datasets.labels import FrameTable, ItemLabels
from stagewise.datasets.names import Strays
from stagewise.datasets.tables import label_facts, label_words


class Split(InMemory):
    """Six items, of which the last two are for testing."""

    def split(self, name):
        return np.arange(4) if name == "train" else np.arange(4, 6)


def dataset(**labels):
    return Split(np.full(6, 1000), labels=labels)


def test_items_lines_and_classes_are_counted():
    kind = ItemLabels(np.array([0, 0, 1, -1, 2, 3]), ["a", "b", "c", "d"], Strays(4, ("x", "y", "z")))
    offsets = np.array([0, 2, 2, 2, 4, 6, 6])
    phones = FrameTable(np.array([0, 1, 1, 3, 3, 4], np.int16), offsets, ["0", "1", "2", "3", "4"])
    first, second = label_facts(dataset(kind=kind, phones=phones), {"kind", "phones"})
    digest = dataset(kind=kind, phones=phones).label_fingerprint("kind")
    assert first == {
        "name": "kind", "items": 5, "of": 6, "classes": 4, "lines_of_no_item": 4, "examples": ["x", "y", "z"],
        "what": "file", "not_trained_on": ["c", "d"], "not_tested": ["a", "b"], "fingerprint": digest,
    }  # fmt: skip
    assert (second["items"], second["not_trained_on"], second["not_tested"]) == (3, ["4"], ["0", "1"])
    assert label_words(first) == (
        "kind: 5 of 6 items have a label; 4 lines name no file: x, y, z, …; 4 classes; no training item of 2 classes, "
        "of which all test items are told wrong: c, d; no test item of 2 classes: a, b",
        True,
    )
    unread, _ = label_facts(dataset(kind=kind, phones=phones), set())
    assert unread["not_trained_on"] == unread["not_tested"] == []
    whole = label_facts(dataset(kind=ItemLabels(np.arange(6) % 2, ["a", "b"])), {"kind"})
    assert [label_words(fact) for fact in whole] == [("kind: all 6 items have a label; 2 classes", False)]


def pipeline(folder, root, data, probe="kind"):
    """Write a pipeline of one small stage with a probe."""
    head, *_ = tiny.TOML.split('[[stage]]\nname = "two"')
    text = head.replace('target = "tiny:TinySpeech"', f'target = "audio-folder"\nroot = "{root}"\n{data}')
    probed = f'[[probe]]\nname = "{probe}"\nstages = "all"\nlabels = "{probe}"\npool = "mean"\nepochs = 1\n'
    (folder / "x.toml").write_text(text.replace("epochs = 2", "epochs = 1") + probed)
    return str(folder / "x.toml")


def call(*words):
    result = CliRunner().invoke(main, list(words), env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [f"{kind}/{number}" for kind in ("common", "usual") for number in range(5)] + ["rare/0", "scarce/0"]:
        wav(tmp_path / "in" / f"{name}.wav", 0.2)
    return tmp_path


def test_single_items_are_trained_on_and_plan_run_and_inspect_say_so(recordings):
    file = pipeline(recordings, recordings / "in", 'labels = { kind = "folder" }')
    words = "kind: all 12 items have a label; 4 classes; no test item of 2 classes: rare, scarce"
    assert f"label {words}." in call("plan", file).stdout
    assert words in call("run", file).stderr
    assert f"label {words}." in call("inspect").stdout
    assert json.loads(call("inspect", "--json").stdout)["data"]["labels"][0]["not_tested"] == ["rare", "scarce"]


def test_mistyped_names_are_told_by_plan_run_and_inspect(recordings):
    names = [f"{'x' * (number % 2)}{kind}/{number}.wav,{kind}" for kind in ("common", "usual") for number in range(5)]
    (recordings / "t.csv").write_text("\n".join(["file,kind", *names]))
    file = pipeline(recordings, recordings / "in", 'labels = { kind = "t.csv" }')
    told = "kind: 6 of 12 items have a label; 4 lines name no file:"
    words = f"{told} xcommon/1.wav, xcommon/3.wav, xusual/1.wav, …; 2 classes"
    assert f"warning: label {words}." in call("plan", file).stdout
    (fact,) = json.loads(call("plan", file, "--json").stdout)["data"]["labels"]
    assert (fact["items"], fact["of"], fact["lines_of_no_item"]) == (6, 12, 4)
    assert words in call("run", file).stderr
    assert f"warning: label {words}." in call("inspect").stdout


def test_labels_of_a_probes_own_data_are_told_too(recordings):
    for number in range(4):
        wav(recordings / "own" / "ab"[number % 2] / f"{number}.wav", 0.2)
    wav(recordings / "own" / "c" / "9.wav", 0.2)
    own = 'data = { target = "audio-folder", root = "own", labels = { kind = "folder" } }\n'
    file = pipeline(recordings, recordings / "in", "")
    Path(file).write_text(Path(file).read_text() + own)
    words = "label kind (of the probe kind): all 5 items have a label; 3 classes; no test item of 1 class: c."
    assert words in call("plan", file).stdout
