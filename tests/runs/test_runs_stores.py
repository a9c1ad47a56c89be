"""A run whose stores are written, recomputed or dropped."""

import pytest
import tiny

import stagewise
from stagewise.errors import ConfigError

pytestmark = pytest.mark.usefixtures("no_peaks")


def test_stores_can_be_recomputed_or_dropped(tmp_path):
    file = tiny.write_pipeline(tmp_path, tiny.TOML.replace("store = { write = true }\n", ""))
    sets = {"defaults.store.write": False}
    facts = stagewise.run(file, run=tmp_path / "none", set=sets)
    assert [s["store"]["state"] for s in facts["stages"]] == ["recomputed"] * 3
    assert not list((tmp_path / "none").rglob("store.zarr"))
    sets = {"defaults.store.write": True, "defaults.store.keep": False}
    facts = stagewise.run(file, run=tmp_path / "dropped", set=sets)
    assert [s["store"]["state"] for s in facts["stages"]] == ["dropped", "dropped", "written"]
    assert stagewise.run(file, run=tmp_path / "dropped", set=sets) == facts
    with pytest.raises(ConfigError, match="stage one has no store \\(it was dropped"):
        stagewise.open(tmp_path / "dropped").stages["one"].store  # noqa: B018
    kept = stagewise.run(file, run=tmp_path / "dropped", set={"defaults.store.write": True})
    assert [s["store"]["state"] for s in kept["stages"]] == ["written"] * 3


def test_recomputed_float_rows_train_like_stored_ones(tmp_path):
    file = tiny.write_pipeline(tmp_path, tiny.TOML.replace("store = { write = true }\n", ""))
    losses = []
    for write in (True, False):
        sets = {"defaults.store.write": write, "defaults.store.dtype": "float32"}
        facts = stagewise.run(file, run=tmp_path / str(write), set=sets, until="two")
        losses.append(facts["stages"][1]["train"])
    assert losses[0]["initial_loss"] == pytest.approx(losses[1]["initial_loss"], rel=1e-6)
    assert losses[0]["loss"] == pytest.approx(losses[1]["loss"], rel=1e-3)  # last bits, after some steps


def test_recurrent_stage_below_another_needs_its_store(tmp_path):
    text = tiny.TOML.replace(
        '[[probe]]\nname = "speaker"',
        '[[stage]]\nname = "top"\ncontext = { target = "gru", input_size = 6, hidden_size = 4 }\n'
        '[[probe]]\nname = "speaker"',
    )
    file = tiny.write_pipeline(tmp_path, text)
    with pytest.raises(ConfigError, match="rows of a recurrent stage depend on everything before them"):
        stagewise.run(file, run=tmp_path / "run", set={"stage.context.store": {"write": False}})
    assert stagewise.run(file, run=tmp_path / "run")["state"] == "complete"
