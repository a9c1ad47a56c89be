"""Processes that align: what a signal does to them while they begin, and how it is said when one is killed."""

import signal
import threading
import time

import psutil
import pytest
from small_files import wav

from stagewise.aligning.work import Item, align_all
from stagewise.datasets.audio_folder import AudioFolder
from stagewise.datasets.labels import frame_count
from stagewise.errors import Interrupted, StagewiseError
from stagewise.signals import Stop

BEGINS = "spawn_main"  # on the command line of a process that a pool has started


def aligned(folder, number, stop=None):
    """What becomes of three items of noise when all processes get a signal as soon as they are there."""
    for item in range(3):
        wav(folder / f"{item}.wav", 0.5)
    dataset = AudioFolder(str(folder), mean=0.0, std=1.0)
    items = [Item(item, name, frame_count(8000), ["so"], {}, [], "") for item, name in enumerate(dataset.keys)]
    before, over = set(psutil.Process().children()), threading.Event()

    def send():
        told = set()
        while not over.is_set() and len(told) < 2:
            new = {p for p in set(psutil.Process().children()) - before - told if BEGINS in " ".join(p.cmdline())}
            if number != signal.SIGKILL or len(new) == 2:  # Python's pool breaks in two while it still starts processes
                for child in new:
                    child.send_signal(number)
                told |= new
            time.sleep(0.005)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        return {item.key for item, _ in align_all(dataset, items, 2, stop or Stop())}
    finally:
        over.set()
        sender.join()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_processes_that_begin_is_for_their_parent(tmp_path, capfd, number):
    assert aligned(tmp_path, number) == {"0.wav", "1.wav", "2.wav"}
    assert "Traceback" not in capfd.readouterr().err


def test_a_process_that_is_killed_is_said(tmp_path):
    with pytest.raises(StagewiseError, match=r"was ended from outside \(no memory left\?\): type the same command"):
        aligned(tmp_path, signal.SIGKILL)


def test_a_process_that_is_killed_when_all_shall_stop_is_no_surprise(tmp_path):
    stop = Stop()
    stop.signal = signal.SIGTERM
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM: what is done is kept\. Type the same command again"):
        aligned(tmp_path, signal.SIGKILL, stop)
