"""Runs become rows, probes become columns, and what cannot be compared is said."""

import json

import numpy as np
import pytest
import tiny
from comparing_examples import probe_result, write_run
from scipy import stats

import stagewise
from stagewise import durable
from stagewise.errors import IntegrityError
from stagewise.results.compare import compare_runs
from stagewise.runs.folder import RunFolder


def test_one_row_per_system_with_the_mean_over_seeds(tmp_path):
    values = [0.61, 0.66, 0.59]
    runs = [write_run(tmp_path / f"gim-{n}", [probe_result(v)], "gim", n) for n, v in enumerate(values)]
    runs.insert(1, write_run(tmp_path / "cpc", [probe_result(0.8)], "cpc", 7))
    facts = compare_runs(runs)
    assert [(row["system"], row["name"]) for row in facts["rows"]] == [
        ("gim", "Greedy InfoMax"),
        ("cpc", "CPC (end to end)"),
    ]
    gim, cpc = facts["rows"]
    assert gim["runs"] == [str(tmp_path / f"gim-{n}") for n in range(3)]
    assert gim["run"] == gim["runs"][0]
    measured = gim["measured"]["speaker"]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert measured["value"] == pytest.approx(np.mean(values))
    assert measured["interval"] == pytest.approx([low, high])
    assert (measured["seeds"], measured["stage"], measured["chance"]) == ([0, 1, 2], "top", 0.25)
    alone = cpc["measured"]["speaker"]
    assert (alone["value"], alone["interval"], alone["seeds"]) == (0.8, [0.76, 0.8200000000000001], [7])
    assert facts["warnings"] == []
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


def test_seeds_that_agree_are_no_more_certain_than_their_test_items(tmp_path):
    runs = [write_run(tmp_path / f"{n}", [probe_result(0.6)], "gim", n) for n in range(2)]
    assert compare_runs(runs)["rows"][0]["measured"]["speaker"]["interval"] == pytest.approx([0.56, 0.62])


def test_published_figures_stay_apart_and_in_percent(tmp_path):
    phones = probe_result(0.5, name="phones", labels="phones")
    gim = write_run(tmp_path / "gim", [probe_result(0.6), phones], "gim")
    mine = write_run(tmp_path / "mine", [probe_result(0.7), phones], "mine")
    facts = compare_runs([gim, mine])
    assert [(c["probe"], c["labels"], c["task"]) for c in facts["columns"]] == [
        ("speaker", "speaker", "speaker"),
        ("phones", "phones", "phones"),
    ]
    published = facts["rows"][0]["published"]
    assert published["speaker"] == {"percent": 99.4, "spread": None}
    assert published["images"] == {"percent": 81.9, "spread": 0.3}
    assert "memory_gb" not in published  # these runs are not of images
    assert facts["rows"][0]["measured"]["speaker"]["value"] == 0.6
    assert facts["rows"][1]["name"] == "mine"
    assert facts["rows"][1]["published"] == {}


@pytest.mark.parametrize(
    ("target", "items", "own", "same"),
    [
        ("librispeech", 5708, None, True),
        ("librispeech", 100, None, False),
        ("synthetic-speech", 5708, None, False),
        ("synthetic-speech", 5708, {"target": "librispeech", "root": "x"}, True),
        ("librispeech", 5708, {"target": "audio-folder", "root": "x"}, False),
    ],
)
def test_only_the_whole_published_data_set_is_as_published(tmp_path, target, items, own, same):
    run = write_run(tmp_path / "gim", [probe_result(0.6, test_items=items)], "gim", data={"target": target})
    edit_lock(run, lambda locked: locked["pipeline"]["probe"][0].update(data=own))
    assert compare_runs([run])["columns"][0]["as_published"] is same


def edit_lock(run, change):
    locked = run.locked
    change(locked)
    run.lock(locked)


def test_the_topmost_stage_is_the_headline_and_no_lower_one_stands_in_for_it(tmp_path):
    both = [probe_result(0.9, "low"), probe_result(0.6, "top")]
    whole = write_run(tmp_path / "whole", both, "gim")
    part = write_run(tmp_path / "part", both[:1], "cpc", done=("low",), unfinished=[("speaker", "top", "speaker")])
    facts = compare_runs([whole, part])
    assert facts["rows"][0]["measured"]["speaker"]["value"] == 0.6
    assert facts["rows"][1]["measured"] == {}
    assert compare_runs([part])["columns"] == []
    assert facts["warnings"] == []


def test_a_seed_without_a_result_is_left_out_of_the_mean(tmp_path):
    runs = [
        write_run(tmp_path / "0", [probe_result(0.5)], "gim", 0),
        write_run(tmp_path / "1", (), "gim", 1, done=(), unfinished=[("speaker", "top", "speaker")]),
        write_run(tmp_path / "2", [probe_result(0.7)], "gim", 2),
    ]
    (row,) = compare_runs(runs)["rows"]
    assert len(row["runs"]) == 3
    assert row["measured"]["speaker"]["seeds"] == [0, 2]
    assert row["measured"]["speaker"]["value"] == pytest.approx(0.6)


def test_runs_on_other_data_are_no_seeds_of_one_row(tmp_path):
    runs = [write_run(tmp_path / str(n), (), "gim", n, fingerprint=str(n) * 64) for n in (0, 1)]
    facts = compare_runs(runs)
    assert [len(row["runs"]) for row in facts["rows"]] == [1, 1]
    assert "its data is another than that of" in " ".join(facts["warnings"])


def test_memory_is_that_of_the_largest_stage_over_seeds(tmp_path):
    image = probe_result(0.5, name="class", labels="class")
    runs = [
        write_run(tmp_path / "0", [image], "gim", 0, peaks=(3000, 1000)),
        write_run(tmp_path / "1", [image], "gim", 1, peaks=(1000, 4000)),
        write_run(tmp_path / "2", (), "random", peaks=(1000, 5000), done=("low",)),
    ]
    trained, begun = compare_runs(runs)["rows"]
    assert trained["memory"] == {
        "stage": "top",
        "predicted_peak_bytes": 4010,
        "measured_peak_bytes": 4000,
        "end_to_end": {"predicted_peak_bytes": 9001},
    }
    assert trained["published"]["memory_gb"] == {"all modules": 7.0, "first module": 2.5}
    assert (begun["memory"]["stage"], begun["memory"]["measured_peak_bytes"]) == ("top", None)


def test_runs_that_differ_in_more_than_the_seed_are_never_averaged(tmp_path):
    runs = [
        write_run(tmp_path / "a", [probe_result(0.5)], seed=0),
        write_run(tmp_path / "b", [probe_result(0.6)], seed=1, epochs=9),
        write_run(tmp_path / "c", [probe_result(0.7)], seed=1),
        write_run(tmp_path / "d", [probe_result(0.8)], seed=1),
        write_run(tmp_path / "e", [probe_result(0.9)], seed=2, epochs=9),
    ]
    facts = compare_runs(runs)
    paths = [[path[-1] for path in row["runs"]] for row in facts["rows"]]
    assert paths == [["a", "c"], ["b", "e"], ["d"]]
    assert [row["name"] for row in facts["rows"]] == ["tiny (a)", "tiny (b)", "tiny (d)"]
    assert [(run["name"], run["run"][-1]) for run in facts["runs"]] == [
        ("tiny (a)", "a"), ("tiny (a)", "c"), ("tiny (b)", "b"), ("tiny (b)", "e"), ("tiny (d)", "d"),
    ]  # fmt: skip
    first, second = facts["warnings"]
    assert "b is a row of its own: it differs from" in first
    assert "a in more than its seed (stage.low.train.epochs: 5 → 9; stage.top.train.epochs: 5 → 9)" in first
    assert "--set pipeline.system=NAME" in first
    assert "d is a row of its own: its seed is 1, like that of" in second


@pytest.mark.parametrize(
    ("places", "apart"),
    [
        (("old/a", "new/a"), ("old", "new")),
        (("old/a", "new/a", "new/b"), ("old/a", "new/a", "b")),
        (("a", "a/a"), ("runs", "a")),
    ],
)
def test_rows_of_one_system_are_named_by_what_tells_their_places_apart(tmp_path, places, apart):
    runs = [write_run(tmp_path / "runs" / place, system="gim") for place in places]
    other = write_run(tmp_path / "runs" / "other", system="cpc")
    names = [row["name"] for row in compare_runs([*runs, other])["rows"]]
    assert names == [*(f"Greedy InfoMax ({place})" for place in apart), "CPC (end to end)"]


def test_the_final_loss_of_a_stage_is_a_mean_over_the_seeds_that_have_finished_it(tmp_path):
    losses = [(1.0, 4.0), (2.0, 5.0), (6.0, None)]
    runs = [write_run(tmp_path / str(seed), seed=seed, done=("low", "top")[: 2 - (b is None)])
            for seed, (_, b) in enumerate(losses)]  # fmt: skip
    for run, values in zip(runs, losses, strict=True):
        for name, value in zip(("low", "top"), values, strict=True):
            if value is not None:
                (path,) = run.path.glob(f"stages/*-{name}-*/stage.json")
                record = durable.read_sealed(path, "")
                record["train"] |= {"validation_loss": value, "initial_loss": None if name == "top" else 9.0}
                durable.write_sealed(path, record)
    (row,) = compare_runs(runs)["rows"]
    low, top = row["losses"]
    _, high = stats.t.interval(0.95, 2, loc=3, scale=stats.sem([1, 2, 6]))
    assert low == {
        "stage": "low", "loss": 3.0, "spread": pytest.approx(high - 3), "items": "validation", "seeds": 3,
    }  # fmt: skip
    assert (top["loss"], top["items"], top["seeds"]) == (4.5, "training", 2)


def test_where_the_data_lies_makes_no_other_row(tmp_path):
    runs = [write_run(tmp_path / name, [probe_result(0.5)], seed=seed) for seed, name in enumerate("ab")]
    assert runs[0].locked["pipeline"]["data"] != runs[1].locked["pipeline"]["data"]
    assert len(compare_runs(runs)["rows"]) == 1


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            {"fingerprint": "e" * 64},
            "data sets, compare them with care: librispeech dddddddd in {a}; librispeech eeeeeeee",
        ),
        ({"labels": "gender"}, "labels, compare them with care: speaker in {a}; gender in {b}."),
        ({"classes": 5}, "numbers of classes, compare them with care: 4 in {a}; 5 in {b}."),
        ({"train_items": 30}, "numbers of training items, compare them with care: 300 in {a}; 30 in {b}."),
        ({"test_items": 99}, "numbers of test items, compare them with care: 100 in {a}; 99 in {b}."),
        ({"hidden": 64}, "numbers of hidden units, compare them with care: 0 in {a}; 64 in {b}."),
    ],
)
def test_apples_and_pears_in_one_column_are_said(tmp_path, other, words):
    data = {key: other[key] for key in other if key == "fingerprint"}
    probe = {key: other[key] for key in other if key != "fingerprint"}
    a = write_run(tmp_path / "a", [probe_result(0.5)], "gim")
    b = write_run(tmp_path / "b", [probe_result(0.6, **probe)], "cpc", **data)
    (warning,) = compare_runs([a, b])["warnings"]
    assert warning.startswith("probe speaker: its runs have different ")
    assert words.format(a=a.path, b=b.path) in warning


def test_runs_of_other_data_without_a_common_column_are_no_reason_to_warn(tmp_path):
    a = write_run(tmp_path / "a", [probe_result(0.5)], "gim")
    image = probe_result(0.5, name="class", labels="class")
    b = write_run(tmp_path / "b", [image], "predsim", data={"target": "stl10"}, fingerprint="e" * 64)
    assert compare_runs([a, b])["warnings"] == []


def test_a_probe_with_data_of_its_own_is_compared_by_that(tmp_path):
    runs = [write_run(tmp_path / name, [probe_result(0.5)], name, fingerprint=name * 64) for name in "ab"]
    for run in runs:
        own = {"target": "librispeech", "root": str(run.path)}
        edit_lock(run, lambda locked, own=own: locked["pipeline"]["probe"][0].update(data=own))
    assert compare_runs(runs)["warnings"] == []


@pytest.mark.parametrize("pattern", ["stages/2-*/stage.json", "probes/*/probe.json", "pipeline.lock.json"])
def test_damage_is_an_integrity_error(tmp_path, pattern):
    run = write_run(tmp_path / "a", [probe_result(0.5)])
    (path,) = run.path.glob(pattern)
    path.write_bytes(path.read_bytes().replace(b"5", b"6", 1))
    with pytest.raises(IntegrityError, match=path.name):
        compare_runs([run])


def test_a_record_that_does_not_name_its_data_is_an_integrity_error(tmp_path):
    run = write_run(tmp_path / "a", [probe_result(0.5)])
    (path,) = run.path.glob("stages/1-*/stage.json")
    durable.write_sealed(path, durable.read_sealed(path, "") | {"identity": {"train": {}}})
    with pytest.raises(IntegrityError, match=r"does not say what the stage was trained on.*Delete its folder"):
        compare_runs([run])


def test_a_run_as_stagewise_makes_it(tmp_path):
    made = stagewise.run(tiny.write_pipeline(tmp_path), run=tmp_path / "run", set={"pipeline.seed": 3})
    facts = compare_runs([RunFolder(tmp_path / "run")])
    assert facts["warnings"] == []
    (row,) = facts["rows"]
    for name in ("speaker", "phones"):
        top = next(p for p in made["probes"] if (p["name"], p["stage"]) == (name, "context"))
        assert row["measured"][name] == {
            "value": top["value"], "interval": top["interval"], "seeds": [3], "stage": "context",
            "chance": top["majority"], "random": None,
        }  # fmt: skip
    measured = [stage["memory"]["measured_peak_bytes"] for stage in made["stages"]]
    assert row["memory"]["measured_peak_bytes"] == max(measured)
    assert {run["data"] for run in facts["runs"]} == {f"tiny:TinySpeech {tiny.TinySpeech().digest[:8]}"}
