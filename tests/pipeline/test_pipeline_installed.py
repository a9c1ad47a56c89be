"""Short names of installed packages: a folder of metadata on the import path is all that an installed package is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny

import stagewise
from stagewise.errors import ConfigError
from stagewise.modules import SHORT_NAMES, Conv1d
from stagewise.pipeline import Pipeline, from_json, json_schema, load_text, resolve
from stagewise.registry import DATASETS, MODULES, OBJECTIVES, ShortNames
from stagewise.runner import plan_pipeline
from stagewise.runs.folder import RunFolder

MODULE = """\
from stagewise.modules import Conv1d
from stagewise.objectives import InfoNCE
from tiny import TinySpeech
class Wide(Conv1d): pass
class Wider(Conv1d): pass
class Loss(InfoNCE): pass
class Speech(TinySpeech): pass
"""
POINTS = """\
[stagewise.modules]
wide = birds:Wide
[stagewise.objectives]
bird-loss = birds:Loss
[stagewise.datasets]
bird-songs = birds:Speech
"""
TOML = (
    tiny.TOML.replace("tiny:TinySpeech", "bird-songs")
    .replace('encoder = { target = "conv1d", in_channels = 8', 'encoder = { target = "wide", in_channels = 8')
    .replace("steps = 3\n", 'target = "bird-loss"\nsteps = 3\n')
)

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a package: its module, and what its metadata say."""

    def put(points: str = POINTS, name: str = "birds", code: str = MODULE) -> Path:
        site = tmp_path / "site"
        metadata = site / f"{name}-1.5.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        (metadata / "entry_points.txt").write_text(points)
        (site / f"{name}.py").write_text(code)
        monkeypatch.syspath_prepend(site)
        return site

    yield put
    sys.modules.pop("birds", None)


def load(text: str = TOML) -> Pipeline:
    return load_text(text, "tiny.toml")


@pytest.mark.usefixtures("no_peaks_here")
def test_a_pipeline_runs_with_them_and_the_run_says_which_classes_they_were(install: Install, tmp_path: Path) -> None:
    site = install()
    stagewise.run(tiny.write_pipeline(tmp_path, TOML), run=tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert run.locked is not None
    locked = run.locked["pipeline"]
    assert locked["data"]["target"] == "birds:Speech"
    assert locked["stage"][1]["encoder"]["target"] == "birds:Wide"
    assert {stage["objective"]["target"] for stage in locked["stage"]} == {"birds:Loss"}

    def actions(text: str) -> list[str]:
        return [stage.action for stage in plan_pipeline(load(text), run).stages]

    # A short name says nothing but the full name; and the class behind it counts.
    assert actions(TOML) == actions(TOML.replace('"wide"', '"birds:Wide"')) == ["cached"] * 3
    (site / "birds-1.5.dist-info/entry_points.txt").write_text(POINTS.replace("birds:Wide", "birds:Wider"))
    assert actions(TOML) == ["cached", "train", "train"]


def test_full_names_take_their_place_once_and_survive_json(install: Install) -> None:
    site = install()
    pipeline = load()
    assert pipeline.stage[1].encoder is not None
    assert pipeline.stage[1].encoder.target == "birds:Wide"
    assert pipeline.where("stage.two.encoder") == 'tiny.toml:22: stage.two.encoder ("wide" of birds 1.5)'
    (site / "birds-1.5.dist-info/entry_points.txt").write_text("")  # another version has no such name
    assert from_json(pipeline.model_dump(mode="json")) == pipeline


def test_a_probe_s_own_data_and_an_override(install: Install) -> None:
    install()
    pipeline = load_text(
        tiny.TOML + 'data = { target = "bird-songs" }\n', "tiny.toml", ["stage.one.encoder.target=wide"]
    )
    assert pipeline.probe[1].data is not None
    assert pipeline.probe[1].data.target == "birds:Speech"
    assert pipeline.stage[0].encoder is not None
    assert pipeline.stage[0].encoder.target == "birds:Wide"
    assert pipeline.data.target == "tiny:TinySpeech"


def test_a_name_that_is_built_in_is_refused(install: Install) -> None:
    install("[stagewise.modules]\ngru = birds:Wide\nwide = birds:Wide\n")
    with pytest.raises(ConfigError) as raised:
        load(tiny.TOML.replace('"conv1d", in_channels = 8', '"wide", in_channels = 8'))
    assert str(raised.value).startswith(
        'tiny.toml:21: stage.two.encoder.target: birds 1.5 gives the short name "gru", which is built in: '
    )
    with pytest.raises(ConfigError, match=r'birds 1\.5 gives the short name "gru"'):
        json_schema()
    assert load(tiny.TOML).stage[2].context is not None  # what is built in is what it was


def test_a_name_that_two_packages_give_is_refused_where_it_is_used(install: Install) -> None:
    install()
    install("[stagewise.modules]\nwide = bees:Wide\nwider = bees:Wide\n", "bees")
    with pytest.raises(ConfigError, match=r"stage\.two\.encoder\.target: \"wide\" is given by") as raised:
        load()
    assert 'write "package.module:Class"' in str(raised.value)
    assert "birds 1.5" in str(raised.value)
    assert "bees 1.5" in str(raised.value)
    pipeline = load(TOML.replace('"wide"', '"wider"'))
    assert pipeline.stage[1].encoder is not None
    assert pipeline.stage[1].encoder.target == "bees:Wide"


def test_what_cannot_be_used_is_said_when_its_name_is(install: Install) -> None:
    points = POINTS + "broken = gone.nowhere:X\nlist = birds:Wide [extra]\nmodule = birds\n"
    install(points)
    pipeline = load(TOML.replace("bird-songs", "list"))  # a class of another kind
    where = pipeline.where("data")
    with pytest.raises(ConfigError, match=r'data \("list" of birds 1\.5\): target "birds:Wide" is a class of another'):
        resolve(pipeline.data.target, int, DATASETS, where)
    pipeline = load(TOML.replace("bird-songs", "broken"))
    with pytest.raises(
        ConfigError, match=r'\("broken" of birds 1\.5\): target "gone\.nowhere:X": there is no such mod'
    ):
        resolve(pipeline.data.target, object, DATASETS, pipeline.where("data"))
    pipeline = load(TOML.replace("bird-songs", "module"))
    with pytest.raises(ConfigError, match='unknown target "birds"'):
        resolve(pipeline.data.target, object, DATASETS, pipeline.where("data"))


def test_messages_and_the_schema_list_them(install: Install) -> None:
    install()
    with pytest.raises(ConfigError, match=r'unknown target "wid" \(did you mean "wide"\?\); there are: .*, wide;'):
        resolve("wid", Conv1d, SHORT_NAMES, "x.toml:1: stage.one.encoder")
    tables = json_schema()["$defs"]
    assert "wide" in tables["Stage"]["properties"]["encoder"]["properties"]["target"]["anyOf"][0]["enum"]
    assert "bird-loss" in tables["Objective"]["properties"]["target"]["anyOf"][0]["enum"]
    assert "bird-songs" in tables["Data"]["properties"]["target"]["anyOf"][0]["enum"]


def test_damaged_metadata_are_words(install: Install) -> None:
    site = install()
    (site / "birds-1.5.dist-info/entry_points.txt").write_bytes(b"[stagewise.modules]\nwide = \xff\n")
    with pytest.raises(ConfigError, match=r"the entry points stagewise\.datasets of the installed packages cannot be"):
        load()


@pytest.mark.parametrize("names", [MODULES, OBJECTIVES, DATASETS])
def test_the_groups(names: ShortNames) -> None:
    assert all(target.startswith(f"{names.group}.") for target in names.values())


def test_nothing_in_the_current_folder_is_read(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `python -m stagewise` has it on its path."""
    site = install()
    monkeypatch.setattr(sys, "path", ["", *(place for place in sys.path if place != str(site))])
    monkeypatch.chdir(site)
    assert MODULES.installed() == {}
