"""What the authors of the compared systems published: never ours, and always shown in a column of its own.

All figures are from Löwe, O'Connor and Veeling, "Putting An End to End-to-End", NeurIPS 2019 (arXiv 1905.11786).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Figure(NamedTuple):
    """An accuracy as it was printed, in percent, and its ± where one was printed."""

    percent: float
    spread: float | None = None


@dataclass(frozen=True)
class Task:
    """What was measured.

    Attributes:
        labels: the label that a probe of ours predicts to do the same task.
        data: `data.target` of the same data set.
        test_items: items that the authors tested on.
        words: the data set as people call it.
        source: where the figures were printed.
    """

    labels: str
    data: str
    test_items: int
    words: str
    source: str


@dataclass(frozen=True)
class System:
    """One way to train an encoder.

    Attributes:
        name: as tables show it.
        accuracy: by task.
        memory_gb: GPU memory of training a ResNet-50 on STL-10 in GB, by what was trained.
    """

    name: str
    accuracy: dict[str, Figure]
    memory_gb: dict[str, float] = field(default_factory=dict)


TASKS = {
    "images": Task("class", "stl10", 8000, "STL-10", "Löwe et al. 2019, Table 1"),
    "phones": Task("phones", "librispeech", 5708, "LibriSpeech train-clean-100", "Löwe et al. 2019, Tables 3 and 4"),
    "speaker": Task("speaker", "librispeech", 5708, "LibriSpeech train-clean-100", "Löwe et al. 2019, Tables 3 and 4"),
}
MEMORY_TASK = "images"  # whose memory was published
MEMORY_SOURCE = "Löwe et al. 2019, Table 2"

SYSTEMS = {
    "gim": System(
        "Greedy InfoMax",
        {"images": Figure(81.9, 0.3), "phones": Figure(62.5), "speaker": Figure(99.4)},
        {"all modules": 7.0, "first module": 2.5},
    ),
    "cpc": System(
        "CPC (end to end)",
        {"images": Figure(80.5, 3.1), "phones": Figure(64.9), "speaker": Figure(99.6)},
        {"all modules": 7.7},
    ),
    "supervised": System(
        "Supervised",
        {"images": Figure(71.4), "phones": Figure(77.7), "speaker": Figure(98.9)},
        {"all modules": 6.3},
    ),
    "greedy-supervised": System(
        "Greedy supervised", {"images": Figure(65.2), "phones": Figure(73.4), "speaker": Figure(98.7)}
    ),
    "random": System("Randomly initialised", {"images": Figure(27.0), "phones": Figure(27.6), "speaker": Figure(1.9)}),
    "mfcc": System("MFCC features", {"phones": Figure(39.7), "speaker": Figure(17.6)}),
    "predsim": System("PredSim", {"images": Figure(80.8)}),
    "deep-infomax": System("Deep InfoMax", {"images": Figure(78.2)}),
    "gim-no-bptt": System("GIM without BPTT", {"phones": Figure(55.5), "speaker": Figure(99.2)}),
    "gim-no-gar": System("GIM without g_ar", {"phones": Figure(50.8), "speaker": Figure(99.1)}),
}


def task_of(labels: str) -> str | None:
    """Return the published task that a probe of these labels does, if there is one."""
    return next((name for name, task in TASKS.items() if task.labels == labels), None)
