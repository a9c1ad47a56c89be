"""What is said of an error that nothing nearer to it put into words: whose code failed, and what to do."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

from stagewise.errors import ConfigError
from stagewise.short_names import DATASETS, MODULES, OBJECTIVES

MEMORY = ("DefaultCPUAllocator: can't allocate memory", "out of memory", "cannot allocate memory")
INTACT = "Everything committed before is intact."


def in_words(error: BaseException) -> str:
    """Say what went wrong: memory, code that is not stagewise's, or a mistake of ours."""
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in MEMORY)):
        first = str(error).partition("\n")[0]
        return (
            f"out of memory{f' ({first})' if first else ''}. {INTACT} Close other programs, or type the same command "
            'with --set pipeline.memory_limit="4 GiB" (steps are computed in pieces that fit) or a smaller '
            "--set defaults.train.batch_size=…"
        )
    frames = traceback.extract_tb(error.__traceback__)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    own = [frame for frame in frames if _is_foreign(frame.filename)]
    if own:
        return (
            f"{own[-1].filename}:{own[-1].lineno}: {own[-1].name} fails: {what}\n"
            f"{INTACT} This is code that the pipeline file names, not stagewise's: correct it, then type the same "
            "command again. STAGEWISE_DEBUG=1 in front of it shows how it came there."
        )
    return (
        f"unforeseen {type(error).__name__} at {frames[-1].filename}:{frames[-1].lineno}: {error}\n"
        f"{INTACT} Type the command again with STAGEWISE_DEBUG=1 in front of it to "
        "see where this comes from, and please report it."
    )


def _is_foreign(filename: str) -> bool:
    """Say whether a file is neither stagewise's nor Python's, nor a library's that brings no classes for it."""
    path = Path(filename)
    if not path.is_absolute() or not path.is_file() or path.is_relative_to(Path(__file__).parents[1]):
        return False
    folders = {Path(folder) for name, folder in sysconfig.get_paths().items() if "lib" in name}
    within = [folder for folder in folders if path.is_relative_to(folder)]
    if not within:
        return True
    top = path.relative_to(max(within, key=lambda folder: len(folder.parts))).parts[0].removesuffix(".py")
    try:
        given = [
            each for names in (MODULES, OBJECTIVES, DATASETS) for found in names.installed().values() for each in found
        ]
    except ConfigError:  # it is said where a short name is looked up
        return False
    return top in {target.partition(":")[0].partition(".")[0] for target, _ in given}
