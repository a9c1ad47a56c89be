"""Bad numbers are found at once and said with their place; nothing is frozen or encoded from them; a run goes on."""

import math

import numpy as np
import pytest
import tiny
import torch

import stagewise
from stagewise.datasets.base import Dataset
from stagewise.errors import NumberError
from stagewise.modules import Conv1d
from stagewise.objectives import InfoNCE, Score
from stagewise.training.loop import Training

CONV, ON_TOP = 'target = "conv1d", in_channels = 1', "stages/1-one-*"


class Harm:
    """What goes wrong, and at which call in training; None for nothing."""

    what: str | None = None
    call = 0
    calls = 0
    items: tuple[int, ...] = ()  # that hold NaN

    @classmethod
    def now(cls, what):
        return cls.what == what and cls.calls == cls.call


class HarmedConv(Conv1d):
    def forward(self, x):
        trains = self.training and torch.is_grad_enabled()
        Harm.calls += trains
        z = super().forward(x)
        if Harm.now("nan") and trains:
            return z * torch.nan
        if Harm.what == "collapse":
            return z * 0 + 1
        if Harm.what == "dead":
            return torch.cat([z[:, :3], z[:, 3:] * 0], 1)
        return z * 1e7 if Harm.what == "huge" else z


class _Steep(torch.autograd.Function):
    """The same numbers forward; backward, what the harm says."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g * {"inf gradient": math.inf, "steep": 1e30}[Harm.what]


class HarmedLoss(InfoNCE):
    def forward(self, z_BCT, c_BDT, generator=None):
        score = super().forward(z_BCT, c_BDT, generator)
        if Harm.now("inf loss") and torch.is_grad_enabled():
            return Score(score.loss * math.inf, score.metrics)
        if Harm.what in ("inf gradient", "steep") and Harm.calls == Harm.call and torch.is_grad_enabled():
            return Score(_Steep.apply(score.loss), score.metrics)
        return score


class Sgd(torch.optim.SGD):
    """Leaps to infinity in one step."""

    def step(self, closure=None):
        super().step(closure)
        if Harm.now("leap"):
            for group in self.param_groups:
                for p in group["params"]:
                    p.data.fill_(math.inf)


class HarmedSpeech(tiny.TinySpeech):
    def read(self, item, start, stop):
        factor = np.nan if item in Harm.items else 50 if Harm.what == "loud" and item == 4 else 1
        return super().read(item, start, stop) * np.float32(factor)


TOML = (
    tiny.TOML.replace('"tiny:TinySpeech"', '"test_faults_numbers:HarmedSpeech"')
    .replace(CONV, 'target = "test_faults_numbers:HarmedConv", in_channels = 1')
    .replace("batch_size = 4", "batch_size = 2")
    .replace("[defaults.objective]", '[defaults.objective]\ntarget = "test_faults_numbers:HarmedLoss"')
)


pytestmark = pytest.mark.usefixtures("no_peaks")


@pytest.fixture(autouse=True)
def harm():
    yield Harm
    Harm.what, Harm.call, Harm.calls, Harm.items = None, 0, 0, ()


def go(tmp_path, **sets):
    notes = []

    def report(kind, **facts):
        notes.append(facts.get("text", ""))

    tmp_path.mkdir(exist_ok=True)
    sets = {key.replace("__", "."): value for key, value in sets.items()}
    stagewise.run(tiny.write_pipeline(tmp_path, TOML), run=tmp_path / "run", set=sets, until="one", report=report)
    return notes


def nothing_is_frozen(tmp_path):
    names = ("stage.json", "trained.json", "encoder.safetensors", "store.zarr")
    return not [p for name in names for p in (tmp_path / "run").glob(f"{ON_TOP}/{name}")]


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calm")
    go(folder)
    return tiny.results(folder / "run")


# With 5 training items in batches of 2 an epoch has two steps.
@pytest.mark.parametrize("call", [1, 4])
@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("nan", "the loss is nan"),
        ("inf loss", "the loss is inf"),
        ("inf gradient", "the gradient norm is (inf|nan)"),
        ("steep", "the gradient norm is inf"),
    ],
)
def test_in_training(tmp_path, calm, what, said, call):
    """Seen in the step that it happens in; the same command goes on once the cause is gone, to the same bytes."""
    Harm.what, Harm.call, Harm.calls = what, call, 0
    epoch, step = 1 + (call - 1) // 2, 1 + (call - 1) % 2
    with pytest.raises(NumberError) as raised:
        go(tmp_path)
    words = rf"stage one, epoch {epoch}, step {step}: {said} \(items item-\d+"
    assert raised.match(words)
    assert raised.match(rf"the checkpoint of epoch {epoch - 1} is kept\. Lower the learning rate")
    assert raised.value.exit_code == 1
    assert Harm.calls == call
    assert nothing_is_frozen(tmp_path)
    Harm.what = None
    assert any("goes on after epoch" in note for note in go(tmp_path))
    assert tiny.results(tmp_path / "run") == calm


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_steep_loss_in_any_precision_and_with_clipping(tmp_path, precision, clip):
    """Clipping by an infinite norm would make every gradient zero or NaN."""
    Harm.what, Harm.call = "steep", 2
    sets = {"defaults.train.precision": precision} | ({"defaults.train.clip_gradient_norm": clip} if clip else {})
    with pytest.raises(NumberError, match="stage one, epoch 1, step 2: the gradient norm is inf"):
        go(tmp_path, **sets)
    assert nothing_is_frozen(tmp_path)


@pytest.mark.parametrize(("call", "said"), [(1, r"epoch 1, step 2: the loss is nan"), (2, r"after epoch 1, stage one")])
def test_weights_that_leap_to_infinity_are_found_by_the_next_step(tmp_path, call, said):
    Harm.what, Harm.call = "leap", call
    with pytest.raises(NumberError, match=said):
        go(tmp_path, defaults__train__optimizer={"target": "test_faults_numbers:Sgd", "lr": 0.1})
    assert nothing_is_frozen(tmp_path)


def test_in_validation_alone(tmp_path, calm, jobs):
    go(tmp_path / "other")
    (item, *_) = jobs[0].validation.items.tolist()
    Harm.items = (item,)
    with pytest.raises(NumberError) as raised:
        go(tmp_path)
    assert raised.match(rf"after epoch 0, stage one: the loss of validation is nan \(items .*item-{item}\b")
    assert raised.match("nothing is frozen. Check these items")
    assert nothing_is_frozen(tmp_path)
    Harm.items = ()
    go(tmp_path)
    assert tiny.results(tmp_path / "run") == calm


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_in_an_item_that_is_only_encoded(tmp_path, calm, dtype):
    """Odd items are for testing: training never reads them. The weights stay, and the store is made once it can be."""
    Harm.items = (7,)
    with pytest.raises(NumberError) as raised:
        go(tmp_path, stage__one__store__dtype=dtype, stage__one__store__write=True)
    assert raised.match(r"stage one: .*items? 7\b.* NaN or infinity\. Check .* Then type the same command again")
    assert len(list((tmp_path / "run").glob(f"{ON_TOP}/trained.json"))) == 1
    assert not list((tmp_path / "run").glob(f"{ON_TOP}/st*re.*json"))
    Harm.items = ()
    notes = go(tmp_path, stage__one__store__dtype=dtype, stage__one__store__write=True)
    assert any("encode (trained, but its store is not finished)" in note for note in notes)
    weights = [digest for name, digest in tiny.results(tmp_path / "run").items() if "encoder" in name]
    assert weights == [digest for name, digest in calm.items() if "encoder" in name]


def test_float16_overflow(tmp_path):
    Harm.what = "huge"
    sets = {"stage__one__store__dtype": "float16", "stage__one__store__write": True, "defaults__train__epochs": 0}
    with pytest.raises(NumberError, match=r"overflow float16 \(largest number 65504\): use dtype = 'float32'"):
        go(tmp_path, **sets)
    go(tmp_path, **sets | {"stage__one__store__dtype": "float32"})


def test_values_cut_by_int8_are_said(tmp_path):
    """Calibration looks at 32 items spread over the data; the loud one is not among them."""
    Harm.what = "loud"
    sets = {"data__items": 40, "stage__one__store__write": True, "defaults__train__epochs": 0}
    (note,) = [note for note in go(tmp_path, **sets) if "int8" in note]
    assert "stage one: " in note
    assert "of its values lie outside the range" in note
    assert '--set stage.one.store.dtype="float16"' in note
    Harm.what = None
    assert not [note for note in go(tmp_path / "calm", **sets) if "int8" in note]


@pytest.mark.parametrize(
    ("what", "said"),
    [("collapse", "has collapsed: every row is the same"), ("dead", "5 of 8 channels are dead (constant)")],
)
def test_a_poor_representation_is_said_and_recorded(tmp_path, what, said):
    Harm.what = what
    assert [note for note in go(tmp_path) if said in note] != []
    (stage, *_) = stagewise.open(tmp_path / "run").facts["stages"]
    assert said in stage["health"]["warnings"][0]


def test_health_is_that_of_the_weights_that_are_frozen(tmp_path, monkeypatch):
    """The last epoch is the worst one here: its weights are thrown away, and so is what was found out about them."""
    seen = []
    true = Training._validate

    def validate(self):
        averages, health = true(self)
        if self.progress.epoch == 2:
            averages["one"]["loss"], health["one"] = 99.0, {**health["one"], "warnings": ["of the last epoch"]}
        seen.append(health["one"])
        return averages, health

    monkeypatch.setattr(Training, "_validate", validate)
    assert not [note for note in go(tmp_path) if "of the last epoch" in note]
    (stage, *_) = stagewise.open(tmp_path / "run").facts["stages"]
    assert stage["health"] == seen[stage["train"]["best_epoch"]]
    assert stage["train"]["best_epoch"] < 2


def test_noise_is_not_made_of_nan(tmp_path, jobs):
    go(tmp_path / "other")
    item = jobs[0].windows.items.tolist()[0]
    Harm.items = (item,)
    with pytest.raises(NumberError, match=rf"stage one: its input holds NaN or infinity \(items .*item-{item}\b"):
        go(tmp_path, defaults__train__noise=0.1)


def test_items_that_hold_nan_are_named(tmp_path, jobs):
    go(tmp_path / "other")
    item = jobs[0].windows.items.tolist()[0]
    Harm.items = (item,)
    with pytest.raises(NumberError, match=rf"stage one, epoch 1, step \d: the loss is nan \(items .*item-{item}\b"):
        go(tmp_path, defaults__train__batch_size=1)


@pytest.mark.parametrize(("probe", "item"), [("speaker", 2), ("speaker", 7), ("phones", 2), ("phones", 7)])
def test_a_probe_reads_no_nan(tmp_path, probe, item):
    """Rows that no store holds, of an item for training and of one for testing."""
    data = {"target": "test_faults_numbers:HarmedSpeech", "seed": 9}
    file, sets = tiny.write_pipeline(tmp_path, TOML), {f"probe.{probe}.data": data, "defaults.train.epochs": 0}
    stagewise.run(file, run=tmp_path / "run", set=sets, until="context")
    Harm.items = (item,)
    with pytest.raises(NumberError) as raised:
        stagewise.run(file, run=tmp_path / "run", set=sets)
    assert raised.match(rf"probe {probe} on stage \w+: the representation of item-{item} holds NaN or infinity")
    assert not list((tmp_path / "run" / "probes").glob(f"{probe}-*/probe.json"))
    Harm.items = ()
    assert stagewise.run(file, run=tmp_path / "run", set=sets)["state"] == "complete"


def test_a_probe_that_diverges_is_said(tmp_path):
    file, sets = tiny.write_pipeline(tmp_path), {"defaults.train.epochs": 0}
    optimizer = {"target": "torch.optim:SGD", "lr": 1e38}
    with pytest.raises(NumberError) as raised:
        stagewise.run(file, run=tmp_path / "run", set={**sets, "probe.speaker.optimizer": optimizer})
    assert raised.match(r"probe speaker on stage \w+: its weights are NaN or infinite after epoch \d; nothing of it")
    assert stagewise.run(file, run=tmp_path / "run", set=sets)["state"] == "complete"


def test_data_sets_are_what_the_tests_say():
    dataset: Dataset = HarmedSpeech()
    assert {7} <= {*dataset.split("test").tolist()}
    assert {2} <= {*dataset.split("train").tolist()}
