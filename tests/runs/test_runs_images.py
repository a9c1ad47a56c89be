"""Runs on images: what their stores hold, the frozen encoder against them, and mirror images."""

import numpy as np
import pytest
import tiny_images
import torch
from tiny_images import TinyImages

import stagewise
from stagewise.errors import ConfigError
from stagewise.frozen.encoder import FrozenPatches
from stagewise.pipeline import load_pipeline
from stagewise.probing import run as probing
from stagewise.runner import plan_pipeline
from stagewise.runs.folder import RunFolder
from stagewise.training.windows import Crops

pytestmark = pytest.mark.usefixtures("no_peaks")

QUICK = {"defaults.train.epochs": 1}


def run(folder, sets=None, name="run", text=tiny_images.TOML, **options):
    return stagewise.run(
        tiny_images.write_pipeline(folder, text), run=folder / name, set={**QUICK, **(sets or {})}, **options
    )


def standardised(data, items):
    """Whole images as the stages take them: float32 (B, 1, H, W)."""
    pixels = np.stack([data.image(item) for item in items]).astype(np.float64).transpose(0, 3, 1, 2) / 255
    return torch.from_numpy(((pixels - 0.4120) / 0.2570).astype(np.float32))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    facts = run(folder)
    return folder, facts


def test_stores_hold_maps_below_and_means_at_the_top(finished):
    folder, facts = finished
    stages = stagewise.open(folder / "run").stages
    assert stages["one"].store.row_shape == (8, 8, 8)
    assert stages["two"].store.row_shape == (12,)
    assert [stage["store"]["rows"] for stage in facts["stages"]] == [24 * 25] * 2
    assert stages["one"].store.lengths.tolist() == [25] * 24
    encoder, data = stagewise.open(folder / "run").encoder("two"), TinyImages()
    one, two = encoder.stages
    for item in (0, 17):  # patch by patch, each an image of its own
        patches = torch.from_numpy(data.read(item, 0, 25)).swapaxes(0, 1)
        with torch.no_grad():
            maps = torch.cat([one.encoder(patch[None]) for patch in patches])
            tops = torch.cat([two.encoder(each[None]) for each in maps])
        np.testing.assert_allclose(stages["one"].store[item], maps.permute(0, 2, 3, 1), atol=1e-5)
        np.testing.assert_allclose(stages["two"].store[item], tops.mean((2, 3)), atol=1e-5)


def test_the_frozen_encoder_gives_the_rows_of_the_stores(finished):
    folder, _ = finished
    opened, data = stagewise.open(folder / "run"), TinyImages()
    for name, channels in (("one", 8), ("two", 12)):
        encoder = opened.encoder(name)
        assert isinstance(encoder, FrozenPatches)
        z_BDRS = encoder(standardised(data, [3, 11]))
        assert (z_BDRS.shape, z_BDRS.dtype) == ((2, channels, 5, 5), torch.float32)
        for z_DRS, item in zip(z_BDRS, (3, 11), strict=True):
            rows = opened.stages[name].store[item]
            pooled = rows.reshape(25, -1, channels).mean(1)
            np.testing.assert_allclose(z_DRS.flatten(1).T, pooled, atol=1e-5)
    assert (encoder.hop, encoder.receptive_field, encoder.first) == (4, 8, 0)
    assert (encoder.sample_rate, encoder.mean, encoder.std) == (None, 0.4120, 0.2570)
    assert not encoder.training
    assert not any(p.requires_grad for p in encoder.parameters())


def test_the_frozen_encoder_takes_images_of_any_size(finished):
    encoder = stagewise.open(finished[0] / "run").encoder("two")
    x = torch.randn(1, 1, 36, 21)
    z = encoder(x)
    assert z.shape == (1, 12, 8, 4)
    torch.testing.assert_close(encoder(x[:, :, 8:24, 4:16]), z[:, :, 2:5, 1:3], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="holds no patch of 8 × 8 pixels: enlarge it"):
        encoder(torch.zeros(1, 1, 7, 30))


def test_a_whole_image_is_one_map(tmp_path):
    data = {"target": "tiny_images:TinyImages", "patch": 0, "validation": 0.2}
    classes = {"target": "cross-entropy", "labels": "class"}
    run(tmp_path, {"data": data, "stage.one.objective": classes, "stage.two.objective": classes})
    opened, made = stagewise.open(tmp_path / "run"), TinyImages(patch=0)
    encoder = opened.encoder("two")
    assert (encoder.receptive_field, opened.stages["two"].store.lengths.tolist()) == (0, [1] * 24)
    x = torch.from_numpy(made.read(5, 0, 1))[None, :, 0]
    torch.testing.assert_close(x, standardised(made, [5])[:, :, 2:22, 2:22], rtol=1e-5, atol=1e-6)
    z = encoder(x)
    assert z.shape == (1, 12, 10, 10)
    np.testing.assert_allclose(z.mean((2, 3)), opened.stages["two"].store[5], atol=1e-5)


def test_probes_read_the_centre_of_every_image(finished, monkeypatch):
    folder, _ = finished
    read = []

    def spy(job, *arguments):
        read.append(job.features)
        return {"value": 0.0, "interval": [0.0, 1.0], "majority": 0.0}

    monkeypatch.setattr(probing, "run_probe", spy)
    run(folder, {"probe.class.stages": "all", "probe.class.epochs": 1})
    stages, data = stagewise.open(folder / "run").stages, TinyImages()
    for features, name in zip(read, ("one", "two"), strict=True):
        for item in (0, 23):
            stored = stages[name].store[item].reshape(25, -1, features.channels).mean(1)
            vector_1C, _ = features.read(features.items.tolist().index(item))
            np.testing.assert_allclose(vector_1C[0], stored[data.centre(item)].mean(0), atol=1e-6)


def test_a_stage_above_is_trained_on_crops_of_the_stores_patches(tmp_path, jobs):
    run(tmp_path)
    lowest, above = jobs
    assert (lowest.windows.pixels, lowest.validation.pixels) == (True, False)
    assert (above.windows.pixels, above.validation.pixels) == (False, False)
    assert above.windows.grid == lowest.windows.grid == (4, 4)
    assert above.source.row_shape == (8, 8, 8)


@pytest.mark.parametrize("schedule", ["iterative", "simultaneous"])
def test_mirror_images_are_stored_and_trained_on_but_not_those_of_held_out_images(tmp_path, jobs, schedule):
    data = {"target": "tiny_images:TinyImages", "views": 2, "validation": 0.2}
    facts = run(tmp_path, {"data": data, "pipeline.schedule": schedule})
    made = TinyImages(views=2)
    assert facts["stages"][0]["store"]["rows"] == 48 * 25
    for job in jobs:
        trained, held_out = set(job.windows.items.tolist()), set(job.validation.items.tolist())
        assert all(item % 2 == 0 for item in held_out)
        assert len(held_out) == 3
        assert trained == {item + view for item in made.pool().tolist() if item not in held_out for view in (0, 1)}
        assert not {item // 2 for item in trained} & {item // 2 for item in held_out}
        assert not {item // 2 for item in trained} & {item // 2 for item in made.split("test").tolist()}
    opened = stagewise.open(tmp_path / "run")
    store, encoder = opened.stages["two"].store, opened.encoder("two")
    for item in (6, 7):
        z_DRS = encoder(standardised(made, [item]))[0]
        np.testing.assert_allclose(z_DRS.flatten(1).T, store[item], atol=1e-5)
    assert torch.equal(standardised(made, [7]), standardised(made, [6]).flip(3))
    assert not np.allclose(store[6], store[7], atol=1e-3)
    (probe,) = facts["probes"]
    assert (probe["train_items"], probe["test_items"]) == (16, 8)  # of two views the first


def test_a_stage_put_on_top_reads_maps_and_the_one_below_is_not_trained_again(finished, tmp_path, jobs):
    folder, _ = finished
    three = '[[stage]]\nname = "three"\nencoder = { target = "resnet", in_channels = 12, planes = 2, blocks = 1 }\n'
    text = tiny_images.TOML.replace('[[probe]]\nname = "class"', f'{three}[[probe]]\nname = "class"')
    old = {path: path.read_bytes() for path in folder.glob("run/stages/*/encoder.safetensors")}
    pipeline = load_pipeline(tiny_images.write_pipeline(tmp_path, text), QUICK)
    planned = plan_pipeline(pipeline, RunFolder(folder / "run"))
    assert [stage.action for stage in planned.stages] == ["cached", "encode", "train"]
    facts = stagewise.run(tmp_path / "tiny-images.toml", run=folder / "run", set=QUICK)
    assert [job.name for job in jobs] == ["three"]
    assert all(path.read_bytes() == content for path, content in old.items())
    stores = {name: stage.store.row_shape for name, stage in stagewise.open(folder / "run").stages.items()}
    assert stores == {"one": (8, 8, 8), "two": (4, 4, 12), "three": (8,)}
    assert facts["state"] == "complete"


def test_images_too_small_for_a_crop_are_an_error(tmp_path):
    words = r"no training image holds a crop of 4 × 4 patches\. Enlarge the images, .*`--set data\.size=20`"
    with pytest.raises(stagewise.errors.DataError, match=words):
        run(tmp_path, {"data.size": 16})


def test_cover_has_no_meaning_for_images(tmp_path):
    with pytest.raises(ConfigError, match='train.windows_per_item: "cover" is for recordings; give images a number'):
        run(tmp_path, {"defaults.train.windows_per_item": "cover"})


def test_a_window_has_no_meaning_for_images(tmp_path):
    with pytest.raises(ConfigError, match="objective.window: is for recordings; of images, data.crop says what"):
        run(tmp_path, {"stage.two.objective.window": 16})


def test_several_crops_an_image(tmp_path, jobs):
    run(tmp_path, {"defaults.train.windows_per_item": 3}, until="one")
    (job,) = jobs
    assert isinstance(job.windows, Crops)
    assert job.windows.per_item == 3
    assert job.windows.steps(4) == 13 * 3 // 4
    assert job.validation.per_item == 1
