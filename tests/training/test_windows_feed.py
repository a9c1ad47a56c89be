"""Reading ahead: the order is kept, errors surface, no thread stays."""

import threading
import time

import numpy as np
import pytest
import torch

from stagewise.errors import DataError
from stagewise.training.feed import AHEAD, Feed, Source
from stagewise.training.windows import Batch


class Slow(Source):
    """Later items are faster, so that they overtake; one item is broken."""

    def __init__(self, broken=-1, delay=0.004):
        self.broken, self.delay, self.reading, self.read_items = broken, delay, 0, []

    def gather(self, items, starts, span):
        (item,) = items.tolist()
        time.sleep(self.delay if item % 3 == 0 else 0)
        if item == self.broken:
            raise DataError(f"item {item} is broken")
        self.read_items.append(item)
        return torch.full((1, 1, span), float(item))

    def finish(self, stored):
        return stored


def batches(count):
    return (Batch(np.array([n]), np.array([0]), (0,), 2, 2) for n in range(count))


def readers():
    return [t.name for t in threading.enumerate() if t.name.startswith("stagewise-read")]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_order_is_that_of_the_batches(threads):
    feed = Feed(Slow(), threads)
    got = [(int(batch.items[0]), float(stored[0, 0, 0])) for batch, stored in feed(batches(20))]
    assert got == [(n, n) for n in range(20)]
    assert readers() == []
    assert 0 < feed.waited < 1


@pytest.mark.parametrize("threads", [1, 4])
def test_an_error_comes_where_its_batch_would(threads):
    got = []
    with pytest.raises(DataError, match="item 7 is broken"):
        got += [int(batch.items[0]) for batch, _ in Feed(Slow(broken=7), threads)(batches(20))]
    assert readers() == []


def test_errors_do_not_overtake_good_batches():
    got = []
    feed = Feed(Slow(broken=7), 4)
    with pytest.raises(DataError):
        for batch, _ in feed(batches(20)):
            got.append(int(batch.items[0]))
    assert got == list(range(7))


def test_leaving_early_leaves_no_thread_and_reads_little():
    source = Slow()
    rows = Feed(source, 2)(batches(1000))
    next(rows)
    rows.close()
    assert readers() == []
    assert len(source.read_items) <= AHEAD


def test_waiting_is_counted():
    feed = Feed(Slow(delay=0.05), 1)
    list(feed(batches(1)))
    assert feed.waited >= 0.04
    list(feed(()))
