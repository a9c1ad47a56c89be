"""What suits a folder of audio files: how they become items, and the paper's six stages at a width that fits.

Löwe et al. 2019, section 4.2 and appendix A.2.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from stagewise.datasets.bad_items import judge
from stagewise.datasets.base import BadItem
from stagewise.datasets.librispeech import SAMPLE_RATE, UTTERANCE
from stagewise.datasets.scan import Rules
from stagewise.errors import DataError
from stagewise.starting.look import Recordings, folders, tells_apart
from stagewise.starting.machine import Machine
from stagewise.starting.recipe import Line, Recipe, skipped

HOP, SPARE = 160, 480  # samples from one row of the fifth convolution to the next, and what its edges take
WINDOWS = (128, 64, 32, 16)
STEPS = 12
LAYERS = ((10, 5, 2), (8, 4, 2), (4, 2, 2), (4, 2, 2), (4, 2, 1))  # kernel, stride, padding
WIDTHS = {False: (64, 64), True: (512, 256)}  # channels and those of the context, by whether there is a GPU
WHY_WIDTHS = {
    False: ("64 channels a stage, for speed: the paper's 512 want a GPU", "64 channels, the paper's are 256"),
    True: ("512 channels a stage, as in the paper", "256 channels, as in the paper"),
}
PARTS = {"train", "test", "dev", "val", "valid", "validation", "eval"}


@dataclass(frozen=True)
class _Layout:
    """How a folder's files become items: the first lines of the data table, the files, their label."""

    target: str
    lines: list[Line]
    names: list[str]
    bad: list[BadItem]
    label: str | None


def audio_recipe(content: Recordings, machine: Machine) -> Recipe:
    """Choose the data set, its rate and channels, the window, and the width of the stages.

    Raises:
        DataError: more than 1 % of the files are bad, or none is long enough.
    """
    layout = _librispeech(content) or _any_folder(content)
    known = dict(zip(content.names, content.headers, strict=True))
    headers = {name: known[name] for name in layout.names}
    rate = SAMPLE_RATE
    if layout.target == "audio-folder":
        rates = Counter(header.rate for header in headers.values())
        rate = min([SAMPLE_RATE, *(number for number, _ in rates.most_common(1))])
    rules = Rules(rate, "skip", resample=True, mono=True, mean=0, std=1)
    problems = {name: problem for name, header in headers.items() if (problem := rules.problem(header))}
    bad = [*layout.bad, *(BadItem(name, f"{content.root}/{name}", problem) for name, problem in problems.items())]
    files = len(headers) + len(layout.bad)
    judge(bad, files, "audio", "skip")
    used = [header for name, header in headers.items() if name not in problems]
    samples = sorted(-(-header.samples * rate // header.rate) for header in used)

    data = list(layout.lines)
    rates = Counter(header.rate for header in used)
    if layout.target == "audio-folder":
        lost = "the paper's; pitches above half of it are lost: raise it to keep them"
        data.append(("sample_rate", rate, lost if max(rates) > rate else "samples per second of every item"))
    if set(rates) != {rate}:
        given = ", ".join(f"{number:,}" for number in sorted(rates))
        data.append(("resample", True, f"the files have {given} samples per second"))
    if any(header.channels > 1 for header in used):
        data.append(("mono", True, "the channels of files that have several are averaged"))
    if bad:
        data.append(skipped(bad, files))
    window, steps = _window(samples, rate)
    objective: list[Line] = [
        ("target", "infonce", "tell the row some steps ahead from rows drawn elsewhere"),
        ("steps", steps, f"rows ahead that are told: {STEPS} in the paper, half a window at most"),
        ("negatives", 10, "rows that each is told from, as in the paper"),
        ("window", window, f"rows that are scored at a time: {window * HOP / rate:.2g} s at the fifth stage"),
    ]
    return Recipe(
        data=data,
        objective=objective,
        batch_size=8,
        learning_rate=2e-4 if machine.gpu else 5e-4,
        why_rate="as in the paper" if machine.gpu else "more than the paper's 2e-4: narrow stages bear it",
        store=[]
        if machine.gpu
        else [("compress", "zstd", "a quarter to six tenths of the bytes of convolutions, and fast enough for a CPU")],
        stages=_stages(machine.gpu is not None),
        label=layout.label,
        images=False,
    )


def _librispeech(content: Recordings) -> _Layout | None:
    """Return the layout of LibriSpeech's folders if half of the files or more lie as there."""
    every = [*content.names, *(item.key for item in content.bad)]
    spoken = {name: match for name in every if (match := UTTERANCE.fullmatch(name))}
    if 2 * len(spoken) < len(every):
        return None
    ((prefix, _),) = Counter(match[1] or "" for match in spoken.values()).most_common(1)
    others = sorted({match[1] or "" for match in spoken.values()} - {prefix})
    within = {name: match[2] for name, match in spoken.items() if (match[1] or "") == prefix}
    names = [name for name in content.names if name in within]
    speakers = Counter(within[name] for name in names)
    lines: list[Line] = [
        ("target", "librispeech", "SPEAKER/CHAPTER/SPEAKER-CHAPTER-UTTERANCE.flac"),
        ("root", str(content.root / prefix), f"there are also: {', '.join(others)}" if others else ""),
    ]
    bad = [item for item in content.bad if item.key in within]
    return _Layout("librispeech", lines, names, bad, "speaker" if tells_apart(speakers) else None)


def _any_folder(content: Recordings) -> _Layout:
    lines: list[Line] = [("target", "audio-folder", ""), ("root", str(content.root), "")]
    level = 2 if {name.lower() for name in folders(content.names)} <= PARTS else 1
    classes = folders(content.names, level)
    label = "class" if tells_apart(classes) else None
    if label:
        source, which = ("folder", "first") if level == 1 else ("folder:2", "second")
        lines.append(("labels", {label: source}, f"a file's class is the {which} folder that it lies in"))
    return _Layout("audio-folder", lines, content.names, content.bad, label)


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
