"""What suits a folder of audio files: how they become items, and the paper's six stages at a width that fits.

Löwe et al. 2019, section 4.2 and appendix A.2.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from stagewise.datasets.bad_items import judge
from stagewise.datasets.base import BadItem
from stagewise.datasets.librispeech import SAMPLE_RATE, below
from stagewise.datasets.names import Names
from stagewise.datasets.scan import Rules
from stagewise.errors import DataError
from stagewise.show import counted, seconds_text
from stagewise.starting.audio_layout import audio_layout
from stagewise.starting.beside import Beside
from stagewise.starting.look import Recordings
from stagewise.starting.recipe import Line, Recipe, few, skipped

HOP, SPARE = 160, 480  # samples from one row of the fifth convolution to the next, and what its edges take
WINDOWS = (128, 64, 32, 16)
STEPS = 12
FEW = 300  # seconds: less teaches little that random weights do not know
LAYERS = ((10, 5, 2), (8, 4, 2), (4, 2, 2), (4, 2, 2), (4, 2, 1))  # kernel, stride, padding
WIDTHS = {False: (64, 64), True: (512, 256)}  # channels and those of the context, by whether there is a GPU
WHY_WIDTHS = {
    False: ("64 channels a stage, for speed: the paper's 512 want a GPU", "64 channels, the paper's are 256"),
    True: ("512 channels a stage, as in the paper", "256 channels, as in the paper"),
}


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
    window, steps = _window(np.sort(lengths).tolist(), rate)
    seconds = float(lengths.sum()) / rate
    short = int((lengths < window * HOP + SPARE).sum())

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
    shorter = f"; of {counted(short, 'shorter file')} none is trained on" if short else ""
    objective: list[Line] = [
        ("target", "infonce", "tell the row some steps ahead from rows drawn elsewhere"),
        ("steps", steps, f"rows ahead that are told: {STEPS} in the paper, half a window at most"),
        ("negatives", 10, "rows that each is told from, as in the paper"),
        ("window", window, f"rows that are scored at a time: {window * HOP / rate:.2g} s at the fifth stage{shorter}"),
    ]
    return Recipe(
        data=[*data, *phones],
        objective=objective,
        batch_size=8,
        learning_rate=2e-4 if gpu else 5e-4,
        why_rate="as in the paper" if gpu else "more than the paper's 2e-4: narrow stages bear it",
        store=[]
        if gpu
        else [("compress", "zstd", "a quarter to six tenths of the bytes of convolutions, and fast enough for a CPU")],
        stages=_stages(gpu),
        labels=layout.labels,
        notes=[*beside.notes, *(few(seconds_text(seconds)) if seconds < FEW else [])],
        items=len(used),
        short=short,
        images=False,
    )


def _window(samples: list[int], rate: int) -> tuple[int, int]:
    """Return the rows of a window that fit into three quarters of the items, and how far ahead to predict."""
    usual, longest = samples[len(samples) // 4], samples[-1]
    for length in (usual, longest):
        for window in WINDOWS:
            if window * HOP + SPARE <= length:
                return window, min(STEPS, window // 2)
    raise DataError(
        f"the longest file has {longest / rate:.2f} s, and training needs {(WINDOWS[-1] * HOP + SPARE) / rate:.2f} s: "
        "join the files, or name a folder of longer ones."
    )


def _stages(gpu: bool) -> list[list[Line]]:
    (width, context), (why_width, why_context) = WIDTHS[gpu], WHY_WIDTHS[gpu]
    stages: list[list[Line]] = []
    for number, (kernel, stride, padding) in enumerate(LAYERS, 1):
        channels = {"in_channels": 1 if number == 1 else width, "out_channels": width}
        layer = {"target": "conv1d", **channels, "kernel_size": kernel, "stride": stride, "padding": padding}
        stages.append([("name", f"conv{number}", why_width if number == 1 else ""), ("encoder", layer, "")])
    gru = {"target": "gru", "input_size": width, "hidden_size": context}
    return [*stages, [("name", "context", why_context), ("context", gru, "")]]
