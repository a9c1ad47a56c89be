"""`stagewise compare` as a user meets it: tables, Markdown, JSON, warnings and exit codes."""

import json

import pytest
from click.testing import CliRunner
from comparing_examples import probe_result, write_run

from stagewise.cli.main import main

NOT_OURS = "measured by its authors at full scale on LibriSpeech train-clean-100, not on the data of these runs"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    runs = tmp_path / "runs"
    phones = {"name": "phones", "labels": "phones"}
    for seed, value in enumerate((0.5, 0.75)):
        write_run(runs / f"gim-{seed}", [probe_result(value), probe_result(0.3, **phones)], "gim", seed)
    write_run(runs / "random", [probe_result(1.0, interval=[0.9949, 1.0])], "random")
    write_run(runs / "mine", [probe_result(0.125)], "mine")
    (runs / "last").write_text("runs/gim-0\n")
    return tmp_path


def compare(*arguments, code=0):
    done = CliRunner().invoke(main, ["compare", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done


def lines_of(done):
    return [line.split() for line in done.stdout.splitlines()]


def test_tables_fit_80_columns_and_keep_published_apart(folder):
    done = compare("runs/gim-0", "runs/gim-1", "runs/random", "runs/mine")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "…" not in done.stdout.replace("(…)", "")
    assert done.stderr == ""
    lines = lines_of(done)
    assert ["system", "stage", "ours", "seeds", "majority", "published"] in lines
    assert ["Greedy", "InfoMax", "top", "62.5", "(0.0", "–", "100.0)", "2", "25.0", "99.4"] in lines
    assert ["Randomly", "initialised", "top", "100.0", "(99.5", "–", "100.0)", "1", "25.0", "1.9"] in lines
    assert ["mine", "top", "12.5", "(8.5", "–", "14.5)", "1", "25.0", "–"] in lines
    assert ["Randomly", "initialised", "–", "–", "–", "–", "27.6"] in lines  # of phones, published alone
    assert ["Greedy", "InfoMax", "top", "2.93", "KiB", "2.94", "KiB", "8.79", "KiB"] in lines
    assert ["mine", "runs/mine", "0", "complete", "librispeech", "dddddddd"] in lines
    assert NOT_OURS in " ".join(done.stdout.split())


def test_a_run_that_is_named_twice_is_one_run(folder):
    once = compare("runs/gim-0")
    twice = compare("runs/gim-0", "runs/gim-0/", folder / "runs" / "gim-0")
    assert (twice.stdout, twice.stderr) == (once.stdout, "")


def test_a_folder_without_a_run_is_left_out_beside_runs(folder):
    (folder / "runs" / "refused").mkdir()
    done = compare("runs/gim-0", "runs/refused")
    assert done.stdout == compare("runs/gim-0").stdout
    assert done.stderr == "warning: runs/refused is left out: nothing was run there yet.\n"
    assert compare("runs/refused", code=2).stdout == ""
    assert compare("runs/gim-0", "runs/nowhere", code=2).stdout == ""


def test_every_stage_of_a_probe_is_shown(folder):
    random = [probe_result(0.25, "low", random=True), probe_result(0.3, random=True)]
    write_run(folder / "deep", [probe_result(0.5, "low"), probe_result(0.75), *random], "deep")
    done = compare("deep", "runs/mine")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "probe speaker on every stage: accuracy in %" in " ".join(done.stdout.split())
    lines = lines_of(done)
    at = lines.index(["system", "low", "top"])
    before = ["deep,", "before", "training", "25.0", "30.0"]
    assert lines[at + 2 : at + 5] == [["deep", "50.0", "75.0"], before, ["mine", "–", "12.5"]]
    assert "every" not in compare("runs/mine").stdout  # where there is but one
    row, other = json.loads(compare("deep", "runs/mine", "--json").stdout)["rows"]
    assert row["stages"]["speaker"] == [
        {"stage": "low", "value": 0.5, "random": 0.25, "seeds": 1},
        {"stage": "top", "value": 0.75, "random": 0.3, "seeds": 1},
    ]
    assert [found["stage"] for found in other["stages"]["speaker"]] == ["top"]


def test_a_mean_over_fewer_seeds_than_there_are_says_so(folder):
    low, random = probe_result(0.5, "low"), probe_result(0.25, "low", random=True)
    write_run(folder / "all", [low, probe_result(0.75), random], "deep")
    write_run(folder / "begun", [low, random], "deep", 1, unfinished=[("speaker", "top", "speaker")])
    done = compare("all", "begun")
    lines = lines_of(done)
    at = lines.index(["system", "low", "top"])
    assert lines[at + 2 : at + 4] == [["deep", "50.0", "75.0", "(1)"], ["deep,", "before", "training", "25.0", "–"]]
    assert "in brackets: over how many seeds, where not all have a result." in done.stdout
    assert "over how many" not in compare("all").stdout


def test_a_long_warning_wraps(folder):
    write_run(folder / ("r" * 50), [probe_result(0.5)], "mine", epochs=9)
    words = compare("runs/mine", "r" * 50).stderr
    assert max(map(len, words.splitlines())) <= 80
    assert words.startswith("warning: ")


def test_a_long_name_wraps(folder):
    write_run(folder / "runs" / ("r" * 90), [probe_result(0.5)], "s" * 64)
    done = compare("runs/gim-0", "runs/" + "r" * 90)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.count("s" * 5) > 1


def test_published_memory_stands_beside_runs_of_images(folder):
    image = probe_result(0.5, name="class", labels="class", test_items=8000)
    for system in ("gim", "cpc", "predsim"):
        write_run(folder / system, [image], system, data={"target": "stl10"})
    done = compare("gim", "cpc", "predsim")
    assert max(map(len, done.stdout.splitlines())) <= 80
    text = " ".join(done.stdout.split())
    assert "7.0 GB (all modules)" in text
    assert "2.5 GB (first module)" in text
    assert "7.7 GB (all modules)" in text
    assert "a ResNet-50 on STL-10, by its authors on their GPU (Löwe et al. 2019, Table 2)" in text
    assert "81.9 ± 0.3" in text
    assert "published: measured by its authors (Löwe et al. 2019, Table 1)." in text  # the same data: no excuse needed


def test_without_published_figures_there_is_no_such_column(folder):
    assert "published" not in compare("runs/mine").stdout
    assert "published" not in compare("runs/mine", "--markdown").stdout


def test_markdown_is_aligned(folder):
    done = compare("runs/gim-0", "runs/gim-1", "runs/mine", "--markdown")
    tables = [part.splitlines() for part in done.stdout.split("\n\n") if part.startswith("|")]
    assert len(tables) == 4  # two probes, memory, runs
    for table in tables:
        assert len({len(line) for line in table}) == 1
        assert len({line.count("|") for line in table}) == 1
        assert set(table[1]) <= set("|-: ")
    assert tables[0][0].split("|")[1:-1][0].strip() == "system"
    assert [cell.strip() for cell in tables[0][2].split("|")[1:-1]] == [
        "Greedy InfoMax", "top", "62.5 (0.0 – 100.0)", "2", "25.0", "99.4",
    ]  # fmt: skip
    assert done.stdout.startswith("### probe speaker: accuracy in %\n\n|")
    assert NOT_OURS in done.stdout
    assert "\x1b" not in done.stdout


def test_markdown_keeps_a_bar_in_a_path_inside_its_cell(folder):
    write_run(folder / "a|b", [probe_result(0.5)])
    assert "a\\|b" in compare("a|b", "--markdown").stdout


def test_square_brackets_in_a_path_are_shown_as_they_are(folder):
    write_run(folder / "a[red]b", [probe_result(0.5)])
    assert "a[red]b" in compare("a[red]b").stdout


def test_json_has_the_contracts_shape(folder):
    facts = json.loads(compare("runs/gim-0", "runs/gim-1", "runs/mine", "--json").stdout)
    assert facts["format"] == 1
    assert [column["probe"] for column in facts["columns"]] == ["speaker", "phones"]
    gim, mine = facts["rows"]
    assert (gim["system"], gim["run"], gim["runs"]) == ("gim", "runs/gim-0", ["runs/gim-0", "runs/gim-1"])
    assert gim["published"]["speaker"]["percent"] == 99.4
    assert gim["measured"]["speaker"]["value"] == 0.625
    assert set(mine["measured"]) == {"speaker"}


def test_warnings_go_to_stderr_in_every_form(folder):
    write_run(folder / "other", [probe_result(0.5, test_items=9)], "cpc")
    for form in ([], ["--json"], ["--markdown"]):
        done = compare("runs/gim-0", "other", *form)
        assert "warning: probe speaker: its runs have different numbers of test items" in done.stderr
        assert "warning: " not in done.stdout
    assert len(json.loads(compare("runs/gim-0", "other", "--json").stdout)["warnings"]) == 1


def test_the_shells_star_may_name_the_pointer_to_the_last_run(folder):
    names = sorted(path.relative_to(folder) for path in (folder / "runs").iterdir())
    assert len(names) == 5
    assert len(json.loads(compare(*names, "--json").stdout)["runs"]) == 4


def test_without_a_finished_probe_memory_is_still_shown(folder):
    write_run(folder / "begun", (), "gim", done=("low",), unfinished=[("speaker", "top", "speaker")])
    done = compare("begun")
    assert ["Greedy", "InfoMax", "top", "–", "2.94", "KiB", "8.79", "KiB"] in lines_of(done)
    assert "No probe on the topmost stage it reads is finished yet" in done.stdout


def test_runs_without_probes_show_their_losses(folder):
    runs = [write_run(folder / "runs" / "bare" / name, epochs=epochs).path for name, epochs in (("a", 1), ("b", 2))]
    done = compare(*runs)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert ["tiny", "(a)", "low", "1.000", "validation", "1"] in lines_of(done)
    assert "These runs have no probes." in done.stdout
    assert "| tiny (b) | top   | 1.000 | validation |     1 |" in compare(*runs, "--markdown").stdout
    assert "final loss" not in compare(*runs, "runs/mine").stdout  # there is something better
    rows = json.loads(compare(*runs, "--json").stdout)["rows"]
    assert [[loss["loss"] for loss in row["losses"]] for row in rows] == [[1.0, 1.0]] * 2


def test_errors_and_their_exit_codes(folder):
    assert "nothing is not a run" in compare("runs/mine", "nothing", code=2).stderr
    assert "runs/last is not a run" in compare("runs/last", code=2).stderr
    assert "RUN..." in compare(code=2).stderr
    assert "exclude each other" in compare("runs/mine", "--json", "--markdown", code=2).stderr
    (path,) = folder.glob("runs/mine/probes/*/probe.json")
    path.write_bytes(b"{}")
    assert "probe.json is damaged" in compare("runs/mine", code=3).stderr


def test_help_has_an_example():
    assert "stagewise compare runs/*" in compare("--help").stdout
