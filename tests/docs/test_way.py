"""How far a pipeline travels when its run is made: counted in a run, by every call that is handed the pipeline."""

import sys
from itertools import pairwise
from pathlib import Path

import tiny
from test_docs import FILES, imports

from stagewise.pipeline import Pipeline, load_pipeline
from stagewise.runner import make, quiet
from stagewise.runs.folder import RunFolder

MOST_FILES, MOST_CLIMBS = 4, 8  # runner, and of the plan: what is built, what changed, what is planned


def heights():
    """Return the floor of every file: it stands above all that it imports."""
    below, found = {module: set(imports(path)) & FILES.keys() for module, path in FILES.items()}, {}
    while len(found) < len(below):
        for module in below.keys() - found.keys():
            if below[module] <= found.keys():
                found[module] = 1 + max((found[under] for under in below[module]), default=0)
    return {str(FILES[module]): floor for module, floor in found.items()}


def places_of_a_make(pipeline, run):
    """Return the files in which a function was handed the pipeline, in the order of the calls."""
    seen = []

    def notice(frame, event, _):
        code = frame.f_code
        given = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        methods = Path(code.co_filename).name == "schema.py"  # where a key stands, asked of the pipeline itself
        if event == "call" and not methods and any(type(frame.f_locals[name]) is Pipeline for name in given):
            seen.append(code.co_filename)

    sys.setprofile(notice)
    try:
        make(pipeline, run, quiet)
    finally:
        sys.setprofile(None)
    return seen


def test_a_pipeline_passes_few_files_and_hardly_climbs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    floors = heights()
    pipeline = load_pipeline(tiny.write_pipeline(tmp_path), {"defaults.train.epochs": 1})
    seen = [place for place in places_of_a_make(pipeline, RunFolder(tmp_path / "run")) if place in floors]
    climbs = sum(floors[after] > floors[before] for before, after in pairwise(seen))
    assert {"runner.py", "plan.py"} <= {Path(place).name for place in seen}
    assert len(set(seen)) <= MOST_FILES, sorted(set(seen))
    assert climbs <= MOST_CLIMBS
