"""Which classes a probe takes for which: a matrix where there are few, else what is mistaken most often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stagewise.reporting import page
from stagewise.reporting.view import View
from stagewise.reporting.words import short
from stagewise.runs.probe_record import read_predictions, read_probe

FEW = 12  # classes of which a matrix is still read at a glance
MISTAKES = 20
Counts = Mapping[tuple[int, int], int]


def confusions(view: View) -> Iterator[str]:
    """Yield for each probe of a run, on the topmost stage that it was fitted on, what it takes for what."""
    tops: dict[str, dict[str, Any]] = {probe["name"]: probe for probe in view.facts["probes"]}
    for name, probe in tops.items():
        if (folder := probe.get("folder")) is None:
            continue
        path = view.folder.path / "probes" / folder
        result = read_probe(path, name)
        found = None if result is None else read_predictions(path, result)
        if result is not None and found is not None:
            yield _shown(f"{name} on {probe['stage']} of {view.name}", result["class_names"], found.confusion())


def _shown(title: str, names: Sequence[str], counts: Counts) -> str:
    if len(names) <= FEW:
        caption = f"{title}: what the test examples of each class (lines) are said to be (columns)"
        return page.matrix(caption, [short(name, 24) for name in names], counts)
    wrong = sorted((pair for pair in counts if pair[0] != pair[1]), key=lambda pair: (-counts[pair], pair))
    if not wrong:
        return page.note(f"{title}: no test example is taken for one of another class.")
    totals: Counter[int] = Counter()
    for (of, _), count in counts.items():
        totals[of] += count
    rows = [
        (names[of], names[said], f"{counts[of, said]:,}", f"{100 * counts[of, said] / totals[of]:.1f}")
        for of, said in wrong[:MISTAKES]
    ]
    caption = f"{title}: the most frequent mistakes, {len(rows)} of {len(wrong):,} kinds"
    return page.table(caption, ("class", "said to be"), ("test examples", "of its class, %"), rows)
