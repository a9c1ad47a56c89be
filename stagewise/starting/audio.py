"""What suits a folder of audio files: how they become items, how loud they are, and the stages that fit them."""

from __future__ import annotations

from collections import Counter

import numpy as np

from stagewise.datasets.bad_items import judge
from stagewise.datasets.base import BadItem, Dataset
from stagewise.datasets.librispeech import SAMPLE_RATE, below
from stagewise.datasets.names import Names
from stagewise.datasets.scan import Rules
from stagewise.show import counted, seconds_text
from stagewise.starting.audio_layout import audio_layout
from stagewise.starting.audio_stages import fitted
from stagewise.starting.beside import Beside
from stagewise.starting.look import Recordings
from stagewise.starting.recipe import Line, Recipe, few, skipped

FEW = 300  # seconds: less teaches little that random weights do not know
HEARD_ITEMS, HEARD_PARTS = 64, 4  # how many items are listened to, and in how many places each
HEARD_SECONDS, HEARD_WITHIN = 1.0, 60.0  # of each part, and from an item's beginning: what is far in is slow to decode
SILENT = 1e-6  # deviation: less is no sound
AS_LOUD = 1.25  # times louder or quieter than LibriSpeech: not worth a line


def audio_recipe(content: Recordings, gpu: bool) -> Recipe:
    """Choose the data set, its rate and channels, the window, and the width of the stages.

    Raises:
        DataError: more than 1 % of the files are bad, or none is long enough.
    """
    beside = Beside(content)
    layout = audio_layout(content, beside)
    known = zip(content.names, content.headers, strict=True)
    headers = {name: header for name, header in known if name in layout.keys}
    rate = SAMPLE_RATE
    if layout.target == "audio-folder":
        rates = Counter(header.rate for header in headers.values())
        rate = min([SAMPLE_RATE, *(number for number, _ in rates.most_common(1))])
    rules = Rules(rate, "skip", resample=True, mono=True, mean=0, std=1)
    problems = {name: problem for name, header in headers.items() if (problem := rules.problem(header))}
    bad = [item for item in content.bad if item.key in layout.keys]
    bad += [BadItem(name, f"{content.root}/{name}", problem) for name, problem in problems.items()]
    judge(bad, len(layout.keys), "audio", "skip")
    used = {name: header for name, header in headers.items() if name not in problems}
    lengths = np.array([-(-header.samples * rate // header.rate) for header in used.values()], np.int64)
    stack = fitted(lengths, rate)
    seconds = float(lengths.sum()) / rate
    short = int((lengths < stack.span).sum())

    data = list(layout.lines)
    rates = Counter(header.rate for header in used.values())
    if layout.target == "audio-folder":
        lost = "the paper's; pitches above half of it are lost: raise it to keep them"
        data.append(("sample_rate", rate, lost if max(rates) > rate else "samples per second of every item"))
    if set(rates) != {rate}:
        given = ", ".join(f"{number:,}" for number in sorted(rates))
        data.append(("resample", True, f"the files have {given} samples per second"))
    if any(header.channels > 1 for header in used.values()):
        data.append(("mono", True, "the channels of files that have several are averaged"))
    if bad:
        data.append(skipped(bad, len(layout.keys)))
    phones: list[Line] = []
    if rate == SAMPLE_RATE:
        keys = [layout.keys[name] for name in used]
        phones = beside.phones(Names([below(key) for key in keys] if layout.target == "librispeech" else keys), lengths)
    return Recipe(
        data=[*data, *phones],
        objective=stack.objective(lengths),
        batch_size=8,
        learning_rate=2e-4 if gpu else 5e-4,
        why_rate="as in the paper" if gpu else "more than the paper's 2e-4: narrow stages bear it",
        store=[]
        if gpu
        else [("compress", "zstd", "a quarter to six tenths of the bytes of convolutions, and fast enough for a CPU")],
        stages=stack.stages(gpu),
        labels=layout.labels,
        notes=[*content.notes, *layout.notes, *beside.notes, *(few(seconds_text(seconds)) if seconds < FEW else [])],
        items=len(used),
        short=short,
        images=False,
    )


def loudness(dataset: Dataset, default: tuple[float, float]) -> list[Line]:
    """Return the lines of mean and deviation for recordings that are louder or quieter than the default ones.

    What is standardised by the deviation of another loudness enters the first stage too small or too large for its
    initial weights.

    Args:
        dataset: standardised by the default.
        default: mean and deviation.
    """
    mean, std = default
    present = dataset.pool()
    present = present[dataset.lengths[present] > 0]
    chosen = present[np.unique(np.linspace(0, len(present) - 1, min(HEARD_ITEMS, len(present))).astype(int))]
    count, total, squares = 0, 0.0, 0.0
    for item in chosen.tolist():
        length = int(dataset.lengths[item])
        part = min(length, int(HEARD_SECONDS * dataset.sample_rate))
        last = min(length, int(HEARD_WITHIN * dataset.sample_rate)) - part
        for begin in np.unique(np.linspace(0, last, HEARD_PARTS).astype(int)).tolist():
            samples_T = dataset.read(item, begin, begin + part)[0].astype(np.float64) * std + mean
            count, total, squares = count + part, total + samples_T.sum(), squares + np.square(samples_T).sum()
    if not count:
        return []
    found_mean = total / count
    found = float(np.sqrt(max(0.0, squares / count - found_mean**2)))
    if found <= SILENT or (1 / AS_LOUD <= found / std <= AS_LOUD and abs(found_mean - mean) <= std / 10):
        return []
    heard = f"of {counted(len(chosen), 'file')} that were listened to"
    return [
        ("mean", float(f"{found_mean:.2g}"), f"of the samples, between -1 and 1, {heard}"),
        ("std", float(f"{found:.3g}"), f"their deviation; LibriSpeech's, which is the default, is {std:.3g}"),
    ]
