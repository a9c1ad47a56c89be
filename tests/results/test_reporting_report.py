"""The whole report of real runs, small ones: one file that stands alone, and the same bytes every time."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click.testing
import numpy as np
import pytest
import tiny
from report_examples import Page

import stagewise
from stagewise import durable
from stagewise.cli.read import report
from stagewise.errors import ConfigError, DataError
from stagewise.results.page import read_views
from stagewise.results.report import write_report
from stagewise.runner import quiet
from stagewise.runs.folder import RunFolder
from stagewise.text import bytes_text

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory):
    """Under a name of its own."""
    return RunFolder(shutil.copytree(finished / "run", tmp_path_factory.mktemp("report") / "small"))


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments):
        return click.testing.CliRunner().invoke(report, [str(a) for a in arguments], catch_exceptions=False)

    return invoke


def written(runs, file, exciting=False):
    write_report(runs, file, quiet, exciting)
    return file.read_text()


def test_a_report_is_one_page_that_loads_nothing(run, tmp_path):
    text = written([run], tmp_path / "r.html", exciting=True)
    page = Page(text)
    assert page.all("html")[0]["lang"] == "en"
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    outside = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, not addresses
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= outside
    assert "url(" not in re.sub(r"url\(#", "", text)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["name"]: a["content"] for a in page.all("meta") if "name" in a}["viewport"].startswith("width=device")
    assert "color-scheme: light dark" in text
    assert "@media (prefers-color-scheme: dark)" in text
    assert "@media print" in text


def test_a_report_can_be_read_without_seeing_it(run, tmp_path):
    page = Page(written([run], tmp_path / "r.html", exciting=True))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(heading["scope"] in ("col", "row") for heading in page.all("th"))
    assert len(page.all("table")) == len(page.all("caption")) == len(page.all("thead")) > 0
    assert [a["tabindex"] for a in page.all("div") if a.get("role") == "region"] == ["0"] * len(page.all("table"))
    assert page.all("img") or page.all("svg")
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))


def test_a_report_says_what_the_run_is(run, tmp_path):
    (view,) = read_views([run])
    text = Page(written([run], tmp_path / "r.html")).text
    for stage in view.facts["stages"]:
        assert f"{stage['index']} {stage['name']}" in text
        assert f"{stage['train']['validation_loss']:.3f}" in text
        assert bytes_text(stage["memory"]["measured_peak_bytes"]) in text
        assert stage["store"]["why"] in text
        assert f"{stage['store']['rows']:,}" in text
        if stage["store"]["state"] == "written":
            assert bytes_text(stage["store"]["bytes"]) in text
        assert stage["environment"]["torch"] in text
    for probe in view.facts["probes"]:
        assert f"{100 * probe['value']:.2f}" in text
    assert "complete, 3 of 3 stages" in text
    assert "tiny:TinySpeech" in text


def test_the_same_run_has_the_same_report(run, tmp_path):
    assert written([run], tmp_path / "a.html", True) == written([run], tmp_path / "b.html", True)


def test_without_matplotlib_it_says_what_to_type(run, tmp_path):
    code = f"""if True:
        import sys
        sys.modules["matplotlib"] = None
        from stagewise.cli.main import main
        main(["report", {str(run.path)!r}, "--out", {str(tmp_path / "r.html")!r}])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "stagewise: a report needs matplotlib: type `pip install 'stagewise[report]'`.\n"


def test_where_it_is_written(run, tmp_path, command):
    shutil.copytree(run.path, tmp_path / "copy")
    assert command("copy").output == "copy/report.html\n"
    assert (tmp_path / "copy" / "report.html").exists()
    assert command("copy", run.path).output == "report.html\n"
    assert (tmp_path / "report.html").exists()
    assert command("copy", "--out", "new/x.html").output == "new/x.html\n"
    assert (tmp_path / "new" / "x.html").exists()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "last").write_text("copy\n")
    assert command("--out", "last.html").output == "last.html\n"
    assert (tmp_path / "last.html").read_bytes() == (tmp_path / "new" / "x.html").read_bytes()


def test_a_folder_is_no_file_to_write_to(run, tmp_path, command):
    with pytest.raises(ConfigError, match="is a folder: name a file, such as `--out .*/report.html`"):
        command(run.path, "--out", tmp_path)
    with pytest.raises(ConfigError, match="is not a run"):
        command(tmp_path)


def test_a_partial_run_is_shown_as_far_as_it_is(tmp_path):
    stagewise.run(tiny.write_pipeline(tmp_path), run=tmp_path / "half", until="one")
    text = Page(written([RunFolder(tmp_path / "half")], tmp_path / "r.html", exciting=True)).text
    assert "begun, 1 of 3 stages" in text
    assert "No probe of half is finished yet" in text
    assert "Stage 1, one" in text
    assert "Stage 2" not in text


def test_a_run_that_has_only_begun(run, tmp_path):
    (tmp_path / "empty").mkdir()
    shutil.copy(run.path / "pipeline.lock.json", tmp_path / "empty")
    text = Page(written([RunFolder(tmp_path / "empty")], tmp_path / "r.html")).text
    assert "not begun, 0 of 3 stages" in text
    assert "No stage is finished yet" in text


def test_names_from_files_stay_text(run, tmp_path):
    folder = tmp_path / '<script>alert("1")<'
    shutil.copytree(run.path, folder)
    page = Page(written([RunFolder(folder)], tmp_path / "r.html", exciting=True))
    assert 'Report of <script>alert("1")<' in page.text
    assert not page.all("script")


def test_runs_of_one_name_are_told_apart(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "small")
    runs = [run, RunFolder(tmp_path / "small")]
    assert [view.name for view in read_views(runs)] == [str(folder.path) for folder in runs]
    text = Page(written(runs, tmp_path / "r.html")).text
    assert "Report of 2 runs" in text


def test_what_excites_a_neuron_is_what_its_store_says(run, tmp_path):
    text = Page(written([run], tmp_path / "r.html", exciting=True)).text
    assert text.count("Channel ") == 3 * 4
    dataset, store = tiny.TinySpeech(), stagewise.open(run.path).stages["context"].store
    rows = {item: store[item] for item in dataset.split("test").tolist()}
    variance = np.concatenate(list(rows.values())).astype(np.float64).var(0)
    context = text[text.index("Stage 3, context") :]
    channel = int(variance.argmax())
    assert context.index("Channel ") == context.index(f"Channel {channel}")
    best = sorted(rows, key=lambda item: -rows[item][:, channel].max())[:4]
    first = context[: context.index("Channel ", context.index("Channel ") + 1)]
    captions = re.findall(r"(item-\d+), ([\d.]+) to ([\d.]+) s: (-?[\d.]+)", first)
    shown = {key: (float(begin), float(end), float(value)) for key, begin, end, value in captions}
    assert list(shown) == [dataset.keys[item] for item in best]
    for item in best:
        row, value = int(rows[item][:, channel].argmax()), float(rows[item][:, channel].max())
        hop, first_sample, field = 40, -52, 105  # of kernels 10, 8, 4 with strides 5, 4, 2 and paddings 2, 2, 2
        begin = max(0, row * hop + first_sample)
        end = min(int(dataset.lengths[item]), row * hop + first_sample + field)
        assert shown[dataset.keys[item]] == pytest.approx((begin / 16000, end / 16000, value), abs=6e-4, rel=6e-3)


def test_without_its_data_or_with_other_data_nothing_is_made_up(run, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny.TinySpeech, "is_there", classmethod(lambda cls, **_: False))
    monkeypatch.setattr(tiny.TinySpeech, "expected", classmethod(lambda cls, **_: expected()))
    with pytest.raises(DataError, match="the data of .* is not there.* leave out --exciting"):
        written([run], tmp_path / "r.html", exciting=True)
    monkeypatch.undo()
    monkeypatch.setattr(tiny.TinySpeech, "fingerprint", lambda self: "0" * 64)
    with pytest.raises(DataError, match="stage one of .* was made with other data"):
        written([run], tmp_path / "r.html", exciting=True)
    assert not (tmp_path / "r.html").exists()


def expected():
    from stagewise.datasets.base import Expected

    return Expected(12, 12 * 3200, "a test")


def test_warnings_of_a_stage_are_shown(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "ill")
    path = next((tmp_path / "ill" / "stages").glob("1-*/stage.json"))
    record = json.loads(path.read_bytes())
    del record["own_sha256"]
    record["health"]["warnings"] = ["5 channels of 8 are <dead>"]
    record["train"]["skipped_items"] = 2
    durable.write_sealed(path, record)
    path = next((tmp_path / "ill" / "probes").glob("*-two-*/probe.json"))
    result = json.loads(path.read_bytes())
    del result["own_sha256"]
    durable.write_sealed(path, result | {"too_short": 3})
    text = Page(written([RunFolder(tmp_path / "ill")], tmp_path / "r.html")).text
    assert "one: 5 channels of 8 are <dead>" in text
    assert "What stages and probes of ill did without:" in text
    assert "one: 2 training items are too short for a window, and were encoded but not trained on" in text
    assert f"probe {result['name']} on two: 3 items with a label, too short for a row" in text


def test_help_names_every_option(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    command = [sys.executable, "-m", "stagewise", "report", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    assert re.search(r"stagewise report\b", done.stdout.split("Usage:")[1].split("\n", 1)[1])
    assert "--exciting" in done.stdout
