"""What suits a folder of images: their size, their patches, and the paper's three modules at a width that fits.

Löwe et al. 2019, section 4.1.
"""

from __future__ import annotations

import numpy as np

from stagewise.datasets.bad_items import judge
from stagewise.datasets.base import BadItem
from stagewise.datasets.image_files import MAX_PIXELS, Header, resized
from stagewise.datasets.names import Names, few_of
from stagewise.errors import DataError
from stagewise.starting.lists_and_tables import Beside
from stagewise.starting.recipe import Line, Recipe, few, root_line, skipped, toml
from stagewise.starting.survey import Pictures, deeper, folders, tells_apart
from stagewise.text import counted

SMALLEST, LARGEST = 40, 96  # pixels of a short side: handwritten digits are enlarged, photographs are reduced
LARGE = 80  # from here on, the paper's patches of 16 pixels
STEPS = 5
# planes and blocks of the three modules, and channels of the stem, by whether there is a GPU
WIDTHS = {False: ((8, 16, 32), (1, 1, 1), 16), True: ((64, 128, 256), (3, 4, 6), 64)}
WHY_WIDTHS = {
    False: "8 planes and one block, for speed; the paper's 64, and 3, 4 and 6, want a GPU",
    True: "planes and blocks as in the paper",
}
FEW = 100  # images: less teaches nothing that random weights do not know
COLOURS = ", though there are colours: false, with in_channels = 3 in module1, sees them"
TRAIN, TESTS = "train", ("test", "validation", "valid", "val")


def images_recipe(content: Pictures, gpu: bool) -> Recipe:
    """Choose the folders, a size, the patches, and the width of the stages.

    Raises:
        DataError: more than 1 % of the files are bad.
    """
    beside = Beside(content)
    every = sorted([*content.names, *(item.key for item in content.bad)])
    parts = folders(every)
    called = {part.lower(): part for part in sorted(parts, reverse=True)}  # Train and TRAIN, too
    train = called.get(TRAIN, TRAIN)
    test = next((called[part] for part in TESTS if part in called), None) if TRAIN in called else None
    roots = [f"{train}/", f"{test}/"] if test else [""]
    splits, listed = ([], None) if test else beside.splits(Names(every, content.twins))
    taken = {
        name for item, name in enumerate(every) if name.startswith(tuple(roots)) and (listed is None or item in listed)
    }
    known = zip(content.names, content.headers, strict=True)
    seen = [(name, header) for name, header in known if name in taken]
    bad = [item for item in content.bad if item.key in taken]
    shorts = sorted(min(header.height, header.width) for _, header in seen)
    short = max(SMALLEST, min(LARGEST, shorts[len(shorts) // 2])) if shorts else LARGEST
    same = set(shorts) == {short}
    patch = 16 if short >= LARGE else 8
    sizes = {name: resized(header.height, header.width, None if same else short) for name, header in seen}
    huge = {name for name, (height, width) in sizes.items() if height * width > MAX_PIXELS}
    bad += [
        BadItem(name, f"{content.root}/{name}", "it is too long and narrow to be resized: cut it")
        for name in sorted(huge)
    ]
    judge(bad, len(sizes) - len(huge) + len(bad), "image", "skip")
    used = [name for name in sizes if name not in huge]
    trained = [name for name in used if name.startswith(roots[0])]
    if not trained:
        raise DataError(f"{content.root}/{train} holds no image that can be used: put some there.")

    classes = folders(trained, len(roots))
    labels = {"class": classes} if tells_apart(classes) and beside.wants("class") else {}
    data: list[Line] = [
        ("target", "image-folder", "an image's class is its folder" if labels else ""),
        root_line("root", content.root / (train if test else "")),
        *splits,
    ]
    if not test:
        usable = np.array([item for item, name in enumerate(every) if name in sizes and name not in huge], np.int64)
        found = beside.labels(content.root, Names(every, content.twins).only(usable), ("class",))
        if found:
            why = "labels that are found here, in tables or names of files"
            data.append(("labels", {label: source for label, (source, _) in found.items()}, why))
        labels |= {label: counts for label, (_, counts) in found.items()}
    elif beside.pattern is not None:
        beside.problem(f"Beside {train} and {test}, no names of files are looked into: write data.labels yourself.")
    beside.check(labels)
    if test and any(name.startswith(roots[1]) for name in used):
        data.append(root_line("test", content.root / test, "images to test the probes on"))
    if not same:
        span = f"{shorts[0]} pixels" if shorts[0] == shorts[-1] else f"{shorts[0]} to {shorts[-1]} pixels"
        data.append(("size", short, f"images are resized: their short sides have {span}"))
    data += [
        ("patch", patch, "pixels of a patch's side: every patch is encoded alone"),
        ("stride", patch // 2, "pixels from one patch to the next"),
        ("crop", 4 * patch, "pixels of a training crop's side: 7 × 7 patches"),
        ("grayscale", True, f"as in the paper{COLOURS if any(header.colour for _, header in seen) else ''}"),
        ("flip", True, "half of the crops are mirrored; false where left and right differ, as in writing"),
    ]
    if bad:
        data.append(skipped(bad, len(used) + len(bad)))
    objective: list[Line] = [
        ("target", "infonce-grid", "tell the patch some rows further down from patches drawn elsewhere"),
        ("steps", STEPS, "rows of patches further down, as in the paper"),
        ("skip", 1, "the next row overlaps the one that predicts"),
        ("negatives", 16, "patches that each is told from, as in the paper"),
    ]
    return Recipe(
        data=data,
        objective=objective,
        batch_size=32,
        learning_rate=2e-4 if gpu else 1e-3,
        why_rate="as in the paper" if gpu else "more than the paper's 2e-4: narrow stages bear it",
        store=[("write", False, "crops of the pixels, mirrored afresh in every epoch; stores of patches are huge")],
        stages=_stages(gpu),
        labels=labels,
        notes=[
            *content.notes,
            *beside.notes,
            *_tiny(seen, patch),
            *deeper(folders(trained, len(roots)), folders(trained, len(roots) + 1), content.root),
            *(_unused(content, train, test) if test else []),
            *(few(counted(len(trained), "image")) if len(trained) < FEW else []),
        ],
        items=len(used),
        images=True,
        counted=len(trained),
    )


def _tiny(seen: list[tuple[str, Header]], patch: int) -> list[str]:
    """Name the images that are smaller than a patch: enlarged, they are a blur."""
    tiny = [name for name, header in seen if min(header.height, header.width) < patch]
    words = f"{counted(len(tiny), 'image is', 'images are')} smaller than a patch of {patch} pixels"
    return [f"{words} before being enlarged, and can teach little: {few_of(tiny)}"] if tiny else []


def _unused(content: Pictures, train: str, test: str) -> list[str]:
    """Name what lies beside the folders of training and test images, and the key that takes another folder."""
    top = [name for name in content.names if "/" not in name]
    beside = f"{counted(len(top), 'image')} beside {train} and {test}, such as {min(top, default='')}"
    notes = [f"{beside}: not used; put them into {train} or {test}"] if top else []
    return notes + [
        f"{folder}, with {counted(count, 'image')}, is not used: when to stop is told by a part of {train}; "
        f"data.unlabelled = {toml(str(content.root / folder))} trains on them, too"
        for folder, count in sorted(folders(content.names).items())
        if folder not in (train, test)
    ]


def _stages(gpu: bool) -> list[list[Line]]:
    planes, blocks, stem = WIDTHS[gpu]
    stages: list[list[Line]] = []
    for number, (width, depth) in enumerate(zip(planes, blocks, strict=True), 1):
        module: dict[str, object] = {"target": "resnet", "in_channels": 4 * planes[number - 2] if number > 1 else 1}
        module |= {"planes": width, "blocks": depth}
        module |= {"stride": 2} if number > 1 else {"stem": stem}
        stages.append([("name", f"module{number}", WHY_WIDTHS[gpu] if number == 1 else ""), ("encoder", module, "")])
    stages[-1].append(("store", {"write": "auto"}, "small: a mean for each patch, for probes"))
    return stages
