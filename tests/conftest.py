"""For all tests: helpers of this folder can be imported, tiny tensors are computed in one thread, one run is shared."""

import os

# Before torch is imported; its threads would spend their time waiting for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import gc
import signal
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from hypothesis import settings

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup, too: tests send it, and processes inherit it
settings.register_profile("any machine", deadline=None)  # how long an example takes is no matter of right or wrong
settings.load_profile("any machine")


@pytest.fixture(scope="module", autouse=True)
def _no_garbage():
    """What was imported lives to the end; to look at it again in every run takes longer than what some runs train."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of tiny.toml and of its finished run, `run`; tests change copies of it alone."""
    import tiny

    import stagewise

    folder = tmp_path_factory.mktemp("finished")
    with _with_peaks():  # whichever file asks for it first
        stagewise.run(tiny.write_pipeline(folder), run=folder / "run")
    return folder


@pytest.fixture
def shared():
    """The folder of real data."""
    folder = os.environ.get("STAGEWISE_TEST_DATA")
    if not folder:
        pytest.skip("real data is not kept in the repository: STAGEWISE_TEST_DATA names a folder that has it")
    return Path(folder)


@pytest.fixture
def jobs(monkeypatch):
    """The jobs that are trained."""
    from stagewise import stages
    from stagewise.training.loop import Training

    seen = []

    class Spy(Training):
        def __init__(self, job, stop, report):
            seen.append(job)
            super().__init__(job, stop, report)

    monkeypatch.setattr(stages, "Training", Spy)
    return seen


@contextmanager
def _with_peaks():
    """Undo what `no_peaks` does."""
    from stagewise.planning import plan
    from stagewise.planning.stage_plan import forecast, within_limit
    from stagewise.training import loop
    from stagewise.training.memory_measured import measured

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "within_limit", within_limit)
        patch.setattr(plan, "forecast", forecast)
        patch.setattr(loop, "measured", measured)
        yield


@contextmanager
def _without_peaks():
    """What a step takes of memory is no matter to most tests: to forecast and to measure it takes longer than to train.

    A forecast follows every operator of a step, a measurement parses what torch's profiler saw.
    """
    from stagewise.planning import plan
    from stagewise.planning.stage_plan import Forecast
    from stagewise.training import loop
    from stagewise.training.memory_measured import Bytes, Peak

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "within_limit", lambda *_: Forecast(Bytes(1, {}), 1))
        patch.setattr(plan, "forecast", lambda *_: Bytes(1, {}))
        patch.setattr(loop, "measured", lambda *_: nullcontext(Peak(1)))
        yield


@pytest.fixture(scope="module")
def no_peaks():
    """No peak of memory is forecast or measured in the runs of a whole file."""
    with _without_peaks():
        yield


@pytest.fixture
def no_peaks_here():
    """Nor in those of one test."""
    with _without_peaks():
        yield


@pytest.fixture
def peaks():
    """In one test of a file with `no_peaks` they are forecast and measured."""
    with _with_peaks():
        yield
