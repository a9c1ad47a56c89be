"""Noise on the input: as wide as the data of each channel, the same for the same seed, none where none is asked for."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import tiny
import tiny_images
import torch
from small_data import InMemory
from tiny_images import TinyImages

import stagewise
from stagewise.errors import Interrupted
from stagewise.modules import Conv1d, Geometry
from stagewise.modules.stage_module import StageModule, represent
from stagewise.objectives import InfoNCE
from stagewise.pipeline import load_pipeline
from stagewise.runner import make, quiet
from stagewise.runs.folder import RunFolder
from stagewise.training import loop
from stagewise.training.feed import RawSource
from stagewise.training.step import Job, Member, Trainee
from stagewise.training.validate import BATCHES, add_noise, deviations
from stagewise.training.windows import Crops, Windows

pytestmark = pytest.mark.usefixtures("no_peaks")

CPU = torch.device("cpu")


def job(dataset, below, channels, windows):
    stage = StageModule(Conv1d(channels, 4, 3), None, channels)
    member = Member("top", Path(), Trainee(stage, InfoNCE(4, 4), None), Geometry(), 16)
    return Job([member], 5, RawSource(dataset), below, windows, windows, 3, 1, 1, 60.0, CPU, dataset.keys, 0.5)


@pytest.mark.parametrize("items", [7, 80])  # in fewer batches than are looked at, and in more
def test_deviations_are_those_of_the_windows_that_are_trained_on(items):
    dataset = InMemory([300] * items, channels=3)
    for number, array in enumerate(dataset.arrays):
        array[:] = array * np.array([[0.01], [1], [30]]) * (1 + number / items) + np.array([[0], [5], [-100]])
    some = job(dataset, [], 3, Windows(np.arange(items), dataset.lengths, Geometry(), 40, 1))
    batches = list(some.windows.batches(3, 5, "top", "deviations"))
    assert (len(batches) > BATCHES) == (items == 80)
    seen = [
        dataset.arrays[item][:, begin : begin + 40].astype(np.float64)
        for batch in batches[:BATCHES]
        for item, begin in zip(batch.items, batch.begins, strict=True)
    ]
    found = deviations(some)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, np.concatenate(seen, 1).std(1), rtol=1e-6)


def test_deviations_are_of_what_frozen_stages_give():
    dataset = InMemory([400] * 5)
    torch.manual_seed(0)
    below = [StageModule(Conv1d(1, 4, 5, 2), None, 1).eval()]
    windows = Windows(np.arange(5), dataset.lengths, below[0].geometry, 30, 2)
    some = job(dataset, below, 4, windows)
    seen = []
    for batch in windows.batches(3, 5, "top", "deviations"):
        for item, begin in zip(batch.items.tolist(), batch.begins.tolist(), strict=True):
            seen.append(
                represent(below, torch.from_numpy(dataset.arrays[item][None, :, begin : begin + batch.span]))[0]
            )
    np.testing.assert_allclose(deviations(some), torch.cat(seen, 1).double().std(1, correction=0), rtol=1e-6)


def test_deviations_of_patches_are_of_channels():
    data = TinyImages(6)
    some = job(data, [], 1, Crops(np.arange(6), data.grids, data.crop, 1, True))
    crops = [
        data.augmented(item, seed)
        for batch in some.windows.batches(3, 5, "top", "deviations")
        for item, seed in zip(batch.items.tolist(), batch.seeds, strict=True)
    ]
    np.testing.assert_allclose(deviations(some), [np.stack(crops).astype(np.float64).std()], rtol=1e-6)


def test_a_channel_that_never_changes_has_no_deviation():
    dataset = InMemory([300] * 4)
    for array in dataset.arrays:
        array[:] = 1000.1
    some = job(dataset, [], 1, Windows(np.arange(4), dataset.lengths, Geometry(), 40, 1))
    assert deviations(some).item() == pytest.approx(0, abs=1e-3)
    assert torch.isfinite(deviations(some)).all()


@pytest.mark.parametrize("shape", [(4, 3, 5000), (2, 3, 40, 8, 8)])
def test_noise_has_the_deviation_of_each_channel(shape):
    x, deviation_C = torch.full(shape, 7.0), torch.tensor([0.0, 0.1, 20.0])
    noisy = x.clone()
    add_noise(noisy, deviation_C, 3)
    assert torch.equal(noisy[:, 0], x[:, 0])
    noise_CN = (noisy - x).transpose(0, 1).flatten(1)
    torch.testing.assert_close(noise_CN.std(1), deviation_C, rtol=0.05, atol=0)
    assert (noise_CN.mean(1).abs() <= 4 * deviation_C / noise_CN.shape[1] ** 0.5).all()
    unit_CN = noise_CN[1:] / deviation_C[1:, None]
    assert abs(float((unit_CN[0] * unit_CN[1]).mean())) < 0.05  # every number has noise of its own


def test_noise_is_a_pure_function_of_the_seed():
    x, deviation_C = torch.zeros(2, 3, 50), torch.ones(3)
    state = torch.get_rng_state()
    first = add_noise(x.clone(), deviation_C, 3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert torch.equal(add_noise(x.clone(), deviation_C, 3), first)
    assert not torch.equal(add_noise(x.clone(), deviation_C, 4), first)


def test_patches_keep_their_order_in_memory():
    x = torch.zeros(2, 5, 8, 8, 3).movedim(-1, 1)
    noisy = add_noise(x, torch.ones(3), 3)
    assert noisy.stride() == x.stride()
    assert noisy.data_ptr() == x.data_ptr()


def weights(run):
    return {path.parent.name[:-9]: path.read_bytes() for path in sorted(run.glob("stages/*/encoder.safetensors"))}


@pytest.mark.parametrize("kind", [tiny, tiny_images])
def test_noise_of_nothing_changes_no_byte_and_some_noise_does(kind, tmp_path, monkeypatch):
    found, seeds = [], []

    def noise(x, deviation_C, seed):
        seeds.append(seed)
        torch.testing.assert_close(deviation_C, 0.3 * found[-1])
        return add_noise(x, deviation_C, seed)

    monkeypatch.setattr(loop, "deviations", lambda job: found.append(deviations(job)) or found[-1])
    monkeypatch.setattr(loop, "add_noise", noise)
    file = kind.write_pipeline(tmp_path, kind.TOML.replace("epochs = 2", "epochs = 1", 1))
    without = stagewise.run(file, run=tmp_path / "without", until="one")
    nothing = stagewise.run(file, run=tmp_path / "nothing", set={"stage.one.train.noise": 0.0}, until="one")
    assert seeds == []
    some = stagewise.run(file, run=tmp_path / "some", set={"stage.one.train.noise": 0.3}, until="one")
    assert len(seeds) == len(set(seeds)) == some["stages"][0]["train"]["steps"]  # never the same noise twice
    first, second, third = (weights(tmp_path / name) for name in ("without", "nothing", "some"))
    assert first == second
    assert first != third
    prints = [facts["stages"][0]["fingerprint"] for facts in (without, nothing, some)]
    assert prints[0] == prints[1] != prints[2]
    # Held-out items have no noise: untrained, both are the same.
    losses = [facts["stages"][0]["train"]["initial_loss"] for facts in (without, some)]
    assert losses[0] == losses[1]


def test_noise_is_the_same_after_an_interruption(tmp_path):
    sets = {"stage.one.train.noise": 0.3, "defaults.train.windows_per_item": 2}
    pipeline = load_pipeline(tiny.write_pipeline(tmp_path), sets)
    make(pipeline, RunFolder(tmp_path / "calm"), quiet, until="one")

    def report(kind, **facts):
        if kind == "step" and (facts["epoch"], facts["step"]) == (1, 1):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="is saved at step 1 of epoch 1"):
        make(pipeline, RunFolder(tmp_path / "run"), report, until="one")
    make(pipeline, RunFolder(tmp_path / "run"), quiet, until="one")
    assert weights(tmp_path / "run") == weights(tmp_path / "calm")
