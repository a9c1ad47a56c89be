"""What tells when a stage has converged: the same numbers whatever training left behind, of items that can tell."""

import re
from dataclasses import replace
from itertools import dropwhile

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from small_data import InMemory
from tiny import TOML, write_pipeline

import stagewise
from stagewise.cli.main import main
from stagewise.errors import Interrupted
from stagewise.modules.geometry import Geometry, Layer
from stagewise.objectives import Objective, Score
from stagewise.planning.check import hold_out, silent
from stagewise.runs.verdict import unmoved
from stagewise.training.checkpoint import load_checkpoint, save_checkpoint
from stagewise.training.windows import Windows

ONE = TOML.split('[[stage]]\nname = "two"')[0]  # the first stage alone
NAMED = "test_training_validate:Recordings"


class Restless(Objective):
    """Notes in what mode it is called, and draws from torch's own generator whatever the mode."""

    seen: list[tuple[bool, torch.Tensor]] = []  # noqa: RUF012

    def __init__(self, z_channels, c_channels):
        super().__init__()
        self.drop = torch.nn.Dropout(0.5)
        self.linear = torch.nn.Linear(c_channels, z_channels)

    def forward(self, z_BCT, c_BDT, generator=None):
        draw = torch.rand(())
        if type(draw) is torch.Tensor:  # no forecast of memory
            Restless.seen.append((self.training, draw))
        return Score(self.drop(self.linear(c_BDT.transpose(1, 2))).square().mean())


def test_an_objective_with_dropout_is_validated_without_it_and_with_the_same_draws_every_time(tmp_path):
    text = TOML.split('[[stage]]\nname = "two"')[0].replace("steps = 3\nnegatives = 4\n", "")
    text = text.replace("[defaults.objective]\n", '[defaults.objective]\ntarget = "test_training_validate:Restless"\n')
    Restless.seen = []
    stagewise.run(write_pipeline(tmp_path, text), run=tmp_path / "run", set={"defaults.train.optimizer.lr": 1e-9})
    seen = list(dropwhile(lambda call: call[0], Restless.seen))  # forecasts may try it before anything is trained
    modes = [training for training, _ in seen]
    validations = [draw.item() for training, draw in seen if not training]
    each = modes.index(True)  # batches of a validation
    assert len(validations) >= 3 * each > 0
    assert validations[:each] == validations[each : 2 * each] == validations[2 * each : 3 * each]
    assert True in modes


class Recordings(InMemory):
    """Noise of some lengths, all of it for training; silent items are zero throughout."""

    def __init__(self, lengths, silent=()):
        super().__init__(lengths)
        for item in silent:
            self.arrays[item][:] = 0

    def split(self, name):
        return np.arange(len(self) if name == "train" else 0)


def piped(tmp_path, lengths, silent=()):
    """A pipeline of one stage on recordings of these lengths."""
    data = f'target = "{NAMED}"\nlengths = {list(lengths)}\nsilent = {list(silent)}'
    return write_pipeline(tmp_path, ONE.replace('target = "tiny:TinySpeech"', data))


def ran(tmp_path, lengths, silent=(), **settings):
    """The record of the stage, and what was said."""
    told = []
    facts = stagewise.run(
        piped(tmp_path, lengths, silent),
        run=tmp_path / "run",
        set=settings,
        report=lambda kind, **facts: told.append(facts["text"]) if kind == "note" else None,
    )
    return facts["stages"][0], told


def test_what_fills_no_window_never_tells_when_to_stop():
    items, fill = np.arange(40), np.arange(40) % 10 == 3
    train, tell = hold_out(items, 0.05, 0, fill)
    assert (len(tell), set(tell.tolist()) <= {3, 13, 23, 33}) == (1, True)
    assert sorted([*train, *tell]) == items.tolist()
    train, tell = hold_out(items, 0.05, 0, items == 7)  # it is trained on
    assert (len(train), len(tell)) == (40, 0)
    (old,) = (np.random.Generator(np.random.Philox(stagewise_seed(0))).permutation(items)[:2],)
    assert hold_out(items, 0.05, 0)[1].tolist() == sorted(old.tolist())


def stagewise_seed(seed):
    from stagewise.seeds import derive_seed

    return derive_seed(seed, "validation")


def test_silent_items_tell_together_with_others_but_not_alone():
    items = np.arange(40)
    _, usual = hold_out(items, 0.05, 0)
    assert hold_out(items, 0.05, 0, None, lambda item: item == usual[0])[1].tolist() == usual.tolist()
    _, told = hold_out(items, 0.05, 0, None, set(usual.tolist()).__contains__)
    assert (len(told), set(told) & set(usual)) == (1, set())
    assert hold_out(items, 0.05, 0, None, lambda _: True)[1].tolist() == usual.tolist()


def test_silence_is_one_value_throughout():
    data = Recordings([100_000, 50, 0], silent=[1])
    assert [silent(data, item) for item in range(3)] == [False, True, True]
    data.arrays[0][:] = 0.25
    assert silent(data, 0)
    data.arrays[0][0, -1] = 0
    assert not silent(data, 0)
    data.arrays[0][:] = np.nan
    assert not silent(data, 0)  # training says what is wrong with it


def test_a_silent_recording_that_would_be_all_that_is_held_out_does_not_throw_the_training_away(tmp_path):
    _, tell = hold_out(np.arange(6), 0.2, 0)
    stage, _ = ran(tmp_path, [3000] * 6, tell.tolist(), **{"defaults.train.epochs": 1})
    assert stage["train"]["validation_loss"] != pytest.approx(np.log(5), abs=1e-5)
    assert "collapsed" not in str(stage["health"]["warnings"])


@pytest.mark.parametrize(
    ("batch_size", "validated", "same"),
    [(3, True, False), (4, True, True), (4, False, False)],
    ids=["some were left out", "all were looked at", "training was looked at"],
)
def test_losses_of_older_code_are_compared_where_they_are_of_the_same_windows(
    tmp_path, monkeypatch, batch_size, validated, same
):
    """Version 0.1 left out what filled no last batch, and held nothing out of a single recording: four windows here."""
    sets = {"defaults.train.epochs": 1, "defaults.train.batch_size": batch_size}

    def stop(_, state):
        if "epoch 0" in state:
            raise Interrupted(state, 15)

    with monkeypatch.context() as patched, pytest.raises(Interrupted, match="saved after epoch 0"):
        patched.setattr("stagewise.signals.Stop.check", stop)
        ran(tmp_path, [3000] * 6, **sets)
    (checkpoints,) = (tmp_path / "run/stages").glob("1-one-*/checkpoint")
    found, _ = load_checkpoint(checkpoints)
    assert found.progress["judged"] == 4
    older = {key: value for key, value in found.progress.items() if key != "judged"} | {"best_loss": -1e9}
    if not validated:
        older["history"] = {"one": [{"epoch": 0, "steps": 0, "seconds": 0.1}]}
    save_checkpoint(checkpoints, replace(found, number=found.number + 1, progress=older))
    stage, told = ran(tmp_path, [3000] * 6, **sets)
    words = "stage one was judged by other windows so far: the best weights are chosen from epoch 1 on."
    assert (words in told, stage["train"]["best_epoch"]) == ((False, 0) if same else (True, 1))


@pytest.mark.parametrize("length", [400, 5_000, 123_456])
def test_windows_of_the_end_share_no_input_with_those_of_the_beginning(length):
    geometry = Geometry((Layer(10, 5, 2, 2), Layer(8, 4, 2, 2)))
    windows = Windows(np.array([1]), np.array([9, length]), geometry, 12, "cover")
    parts = windows.split_end(0.05, 4)
    if length == 400:
        assert parts is None
        return
    beginning, end = parts
    first, last = (np.concatenate([batch.begins for batch in part.batches(1, 0, "x")]) for part in parts)
    assert first.max() + geometry.window_span(12) <= last.min() + -geometry.first
    assert last.max() + geometry.window_span(12) <= length + -geometry.first
    assert len(last) == end.counts.sum() >= 4
    assert beginning.starts[0] > 18 * end.starts[0] - 200
    assert Windows(np.array([0, 1]), windows.lengths, geometry, 12, 1).split_end(0.05, 4) is None


def test_one_recording_is_held_out_by_its_end(tmp_path):
    stage, notes = ran(tmp_path, [20_000], **{"defaults.train.windows_per_item": 8})
    assert "stage one: the end of the only recording is held out, to tell when to stop." in notes
    assert stage["train"]["initial_loss"] is not None
    assert stage["train"]["epochs"] == 2


def test_where_nothing_can_be_held_out_the_loss_is_called_that_of_training(tmp_path):
    stage, notes = ran(tmp_path, [200])
    assert "stage one: nothing can be held out: the training loss tells when to stop." in notes
    assert stage["train"]["initial_loss"] is None
    done = CliRunner().invoke(main, ["inspect", str(tmp_path / "run")])
    assert "of one: of training, as nothing was held out" in " ".join(done.stdout.split())
    log = CliRunner().invoke(main, ["run", str(tmp_path / "tiny.toml"), "--run", str(tmp_path / "again")])
    assert re.search(r"one › done after 2 epochs .*, training loss \d", log.stderr)
    assert "validation loss" not in log.stderr


def test_what_is_reported_is_measured_on_windows_that_did_not_choose_the_weights(tmp_path):
    stage, _ = ran(tmp_path, [2000] * 12, **{"defaults.train.epochs": 3})
    train = stage["train"]
    assert train["best_epoch"] > 0
    assert train["validation_loss"] != train["chosen_loss"]
    assert train["validation_loss"] == pytest.approx(train["chosen_loss"], rel=0.05)
    again = stagewise.run(tmp_path / "tiny.toml", run=tmp_path / "b", set={"defaults.train.epochs": 3})
    assert again["stages"][0]["train"]["validation_loss"] == train["validation_loss"]


def test_a_stage_that_is_trained_on_few_items_is_warned_of_in_its_own_line_of_plan_run_and_inspect(tmp_path):
    lengths = [60] * 45 + [900] * 4
    words = "only 4 of 49 items can be trained on, and all others are shorter than its window: lower objective.window"
    planned = CliRunner().invoke(main, ["plan", str(piped(tmp_path, lengths))])
    assert f"warning: one: {words}" in " ".join(planned.stdout.split())
    stage, notes = ran(tmp_path, lengths)
    assert f"stage one: {words}." in notes
    assert words in stage["health"]["warnings"]
    inspected = CliRunner().invoke(main, ["inspect", str(tmp_path / "run")])
    assert f"warning: one: {words}" in " ".join(inspected.stdout.split())
    assert "can be trained on" not in CliRunner().invoke(main, ["plan", str(piped(tmp_path, [900] * 9))]).stdout


def test_a_stage_whose_loss_does_not_move_is_warned_of(tmp_path):
    stage, notes = ran(tmp_path, [900] * 9, **{"defaults.train.optimizer.lr": 1e-9})
    (words,) = stage["health"]["warnings"]
    assert "its loss hardly moved, " in words
    assert "guessing gives 1.609" in words
    assert f"stage one: {words}." in notes


@pytest.mark.parametrize(
    ("losses", "information", "said"),
    [
        ([2.398, 2.396], 0.002, True),
        ([2.673, 2.39], 0.008, True),  # it began above guessing, and came no further
        ([2.673, 2.120], 0.278, False),
        ([2.4, 2.5], None, True),
        ([0.0, -0.6], None, False),
    ],
)
def test_when_a_loss_has_not_moved(losses, information, said):
    history = [{"validation_loss": loss, "validation_information": information} for loss in losses]
    if information is None:
        history = [{"validation_loss": loss} for loss in losses]
    assert bool(unmoved(history, 1)) == said
    assert not unmoved(history[:1], 0)
    assert not unmoved([{"epoch": 0}, {"loss": 1.0}], 1)  # of training alone, there is nothing to compare it with
    assert unmoved([{"epoch": 0}, {"loss": 1.0}, {"loss": 0.999}], 2)
    moved = [{"validation_loss": 2.6}, {"validation_loss": 1.0}]
    assert not unmoved(moved, 1)
    assert "2.600 → 2.590" in unmoved(moved, 1, {"loss": 2.59})  # the number that the record reports
