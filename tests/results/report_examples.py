"""Runs as a report knows them, without a disk; and a reader of pages that finds what browsers forgive."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from stagewise.results.page import View
from stagewise.runs.folder import RunFolder

VOID = {"meta", "img", "br"}


def stage(index, name, measured=2_000_000, predicted=2_500_000):
    return {
        "index": index,
        "name": name,
        "state": "complete" if measured else "empty",
        "parameters": 1234,
        "memory": {"predicted_peak_bytes": predicted, "measured_peak_bytes": measured, "pieces": 1},
        "train": {"initial_loss": 2.4, "validation_loss": 1.5, "epochs": 3, "converged": False, "seconds": 1.0},
        "store": {
            "state": "written",
            "why": "it fits on the disk",
            "dtype": "int8",
            "bytes": 64_000,
            "seconds": 0.5,
            "rows": 1000,
            "float32_bytes": 256_000,
        },
        "health": {"warnings": []},
        "environment": {"torch": "2.11.0", "threads": 1} if measured else None,
    }


def probe(stage, value, name="speaker", labels="speaker", interval=None, test_items=100, random=None):
    return {
        "name": name,
        "stage": stage,
        "labels": labels,
        "value": value,
        "interval": list(interval or (max(0, value - 0.05), min(1, value + 0.05))),
        "majority": 0.1,
        "train_items": 400,
        "test_items": test_items,
        "test_rows": test_items,
        "random": random and {"value": random, "interval": [random, random]},
        "paired": random and {"difference": value - random, "interval": [value - random - 0.1, value - random + 0.1]},
        "verdict": "worse" if random and value < random else "better",
        "words": "worse than before training" if random and value < random else "",
    }


def curve(*losses):
    """Validation losses from epoch 0 on; training losses 0.1 below."""
    records = [{"epoch": n, "validation_loss": loss, "loss": loss - 0.1} for n, loss in enumerate(losses)]
    del records[0]["loss"]
    return records


def view(name="run", target="synthetic-speech", probes=(), limit=None, curves=None, schedule="iterative"):
    curves = {"one": curve(2.4, 2.0, 1.5), "two": curve(2.2, 1.8)} if curves is None else curves
    facts = {
        "pipeline": "p",
        "state": "complete",
        "schedule": schedule,
        "device": "cpu",
        "memory_limit_bytes": limit,
        "end_to_end": {"predicted_peak_bytes": 6_000_000},
        "stages": [stage(n, s) for n, s in enumerate(curves, 1)],
        "probes": list(probes),
    }
    return View(name, RunFolder(Path("runs") / "x"), facts, {"target": target}, curves)


class Page(HTMLParser):
    """What a page holds; fails on tags that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(self.words)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def pictures_of(text):
    """The pixels of every PNG inside a piece of a page, uint8 (H, W, 3)."""
    found = re.findall(r'<img [^>]*src="data:image/png;base64,([^"]+)"', text)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")) for data in found]
