"""Signals: the first asks, the second ends, and afterwards all is as it was."""

import os
import signal
import threading

import pytest

from stagewise.errors import Interrupted
from stagewise.signals import SIGNALS, Stop, stoppable


def test_without_a_signal_nothing_happens():
    with stoppable() as stop:
        stop.check("everything")
        assert stop.signal is None


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_asks_to_stop(number):
    with stoppable() as stop:
        os.kill(os.getpid(), number)
        assert stop.signal == number
        with pytest.raises(Interrupted) as raised:
            stop.check("step 7 is saved.")
    assert str(raised.value) == (f"stopped by {number.name}: step 7 is saved. Type the same command again to go on.")
    assert raised.value.exit_code == 128 + number


def test_where_nothing_is_kept_it_begins_anew():
    with stoppable() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Interrupted, match=r"^stopped by SIGINT: nothing is kept. Type .* again to start over\.$"):
            stop.check(None)


def test_a_second_signal_ends_at_once():
    with stoppable() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted, match="stopped at once by a second SIGINT") as stopped:
            os.kill(os.getpid(), signal.SIGINT)
        assert stopped.value.exit_code == 130
        assert stop.signal == signal.SIGTERM


@pytest.mark.parametrize("error", [None, ValueError])
def test_handlers_are_restored(error):
    def mine(*_):
        pass

    before = signal.signal(signal.SIGTERM, mine)
    handlers = [signal.getsignal(n) for n in SIGNALS]
    try:
        with stoppable():
            assert all(signal.getsignal(n) not in handlers for n in SIGNALS)
            if error:
                raise error
    except ValueError:
        pass
    finally:
        after = [signal.getsignal(n) for n in SIGNALS]
        signal.signal(signal.SIGTERM, before)
    assert after == handlers


def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.signal is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_catch_nothing():
    handlers, seen = [signal.getsignal(n) for n in SIGNALS], []

    def work():
        with stoppable() as stop:
            seen.append(([signal.getsignal(n) for n in SIGNALS], stop.signal))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(handlers, None)]


def test_every_stop_is_its_own():
    with stoppable() as stop:
        os.kill(os.getpid(), signal.SIGINT)
    assert (stop.signal, Stop().signal, Stop.signal) == (signal.SIGINT, None, None)
