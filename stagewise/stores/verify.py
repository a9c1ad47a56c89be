"""Verifying a store: every byte of every file is read and hashed again, and all problems are told at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stagewise.errors import IntegrityError
from stagewise.stores.damage import damaged, damaged_rows
from stagewise.stores.files import file_problem, list_files, read_offsets, read_scaling
from stagewise.stores.layout import STORE
from stagewise.stores.manifest import Manifest, read_manifest


def verify_store(folder: Path, progress: Callable[[int, int], None] | None = None) -> list[str]:
    """Compare every byte of the store of a stage's folder with its manifest; change nothing.

    Args:
        folder: of the stage.
        progress: called with the bytes read so far and the bytes of all files, after each file.

    Returns:
        One sentence for each problem: path, items where they are known, what to type. None when all is well.
    """
    try:
        manifest = read_manifest(folder)
    except IntegrityError as error:
        return [str(error)]
    store = folder / STORE
    sizes = list_files(store)
    digests = {**manifest.files, **{shard.path: shard.sha256 for shard in manifest.shards}}
    problems, done = {}, 0
    for name, digest in digests.items():
        problem = file_problem(store / name, digest, sizes.get(name))
        if problem:
            problems[name] = problem
        done += sizes.get(name, 0)
        if progress is not None:
            progress(done, manifest.bytes)
    strangers = [
        f"{store / name} is not part of the store. Delete it, then type `stagewise verify` again."
        for name in sorted(sizes.keys() - digests.keys())
    ]
    return _sentences(store, manifest, problems) + strangers


def _sentences(store: Path, manifest: Manifest, problems: dict[str, str]) -> list[str]:
    sentences = [str(damaged(store / name, problems[name])) for name in manifest.files if name in problems]
    offsets = None  # as long as it is not known which items a shard holds
    try:
        offsets = read_offsets(store, manifest.items, manifest.rows)
        if manifest.dtype == "int8":
            read_scaling(store, manifest.row_shape[-1])
    except (ValueError, OSError) as error:
        if not sentences:  # the files are as the manifest has them: it is the manifest that cannot be true
            sentences = [str(damaged(store, str(error)))]
    for shard in manifest.shards:
        if shard.path in problems:
            rows = range(shard.first_row, shard.first_row + shard.rows)
            sentences.append(str(damaged_rows(store / shard.path, problems[shard.path], rows, offsets)))
    return sentences
