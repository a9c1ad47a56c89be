"""A signal that reaches the process which speaks, too, as Ctrl-C in a terminal does, does not end its work."""

import signal

import psutil
import pytest

from stagewise.datasets.corpus import Request, speak


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_process_that_speaks_goes_on(number):
    pytest.importorskip("espeakng_loader")
    others = psutil.Process().children()
    answers = speak([Request(f"sentence {n}", "en", 160, 50, 100) for n in range(40)])
    next(answers)
    (child,) = (process for process in psutil.Process().children() if process not in others)
    child.send_signal(number)
    assert len(list(answers)) == 39
    assert psutil.Process().children() == others
