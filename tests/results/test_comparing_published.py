"""The published figures are those of the paper, in the units of the paper."""

import pytest

from stagewise.results.published import SYSTEMS, TASKS, task_of

# Copied by hand from the table of the reference, row by row: STL-10, phones, speaker.
PRINTED = """
deep-infomax 78.2 - -
predsim 80.8 - -
random 27.0 27.6 1.9
mfcc - 39.7 17.6
supervised 71.4 77.7 98.9
greedy-supervised 65.2 73.4 98.7
cpc 80.5±3.1 64.9 99.6
gim 81.9±0.3 62.5 99.4
gim-no-bptt - 55.5 99.2
gim-no-gar - 50.8 99.1
"""


def test_every_accuracy_as_it_was_printed():
    lines = [line.split() for line in PRINTED.strip().splitlines()]
    assert {slug for slug, *_ in lines} == set(SYSTEMS)
    for slug, *cells in lines:
        printed = {task: cell for task, cell in zip(("images", "phones", "speaker"), cells, strict=True) if cell != "-"}
        ours = {
            task: f"{figure.percent:.1f}" + (f"±{figure.spread}" if figure.spread else "")
            for task, figure in SYSTEMS[slug].accuracy.items()
        }
        assert ours == printed, slug


def test_memory_as_it_was_printed():
    printed = {slug: system.memory_gb for slug, system in SYSTEMS.items() if system.memory_gb}
    assert printed == {
        "supervised": {"all modules": 6.3},
        "cpc": {"all modules": 7.7},
        "gim": {"all modules": 7.0, "first module": 2.5},
    }


@pytest.mark.parametrize(
    ("labels", "task"), [("phones", "phones"), ("speaker", "speaker"), ("class", "images"), ("gender", None)]
)
def test_a_probe_is_known_by_its_labels(labels, task):
    assert task_of(labels) == task
    assert task is None or TASKS[task].labels == labels
