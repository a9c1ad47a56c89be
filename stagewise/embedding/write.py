"""Write an embedding to one file, whose name says its format, while it is computed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Protocol

from stagewise.atomic import read_bytes
from stagewise.embedding.embed import Embedding, Floats
from stagewise.embedding.given_files import Report
from stagewise.embedding.place import check_place
from stagewise.errors import ConfigError
from stagewise.publishing import publishing
from stagewise.stopping import stoppable


class Writer(Protocol):
    """A file that is being written."""

    def add(self, item: int, rows_nC: Floats) -> None:
        """Take the next rows of an item; items come in order."""

    def close(self) -> None:
        """Write what is still held back."""


WRITERS = {
    ".npz": "stagewise.embedding.npz:NpzWriter",
    ".zarr": "stagewise.embedding.zarr_group:ZarrWriter",
    ".parquet": "stagewise.embedding.parquet:ParquetWriter",
}


ZARR, MARK = {"zarr.json", "z", "offsets", "keys"}, b'"stagewise embed"'  # what is in a group of ours


def check_out(out: Path, force: bool = False) -> None:
    """See that a file can be written, before anything is computed for it.

    Args:
        out: the file.
        force: replace the one that is there.

    Raises:
        ConfigError: its name has another ending, its folder is not there, or something is in its place.
    """
    if out.suffix not in WRITERS:
        raise ConfigError(f"--out {out}: the file's name must end in {', '.join(WRITERS)}.")
    check_place(out, force, _is_ours if out.suffix == ".zarr" else None)
    if out.suffix == ".parquet":
        try:
            import_module("pyarrow")
        except ImportError:
            raise ConfigError(
                "a .parquet file needs pyarrow: type `pip install 'stagewise[parquet]'`, or end --out in .npz or .zarr."
            ) from None


def _is_ours(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()} - {"grids"}
    return names == ZARR and (folder / "zarr.json").is_file() and MARK in read_bytes(folder / "zarr.json")


def write(made: Embedding, out: Path, report: Report, force: bool = False) -> None:
    """Compute an embedding and write it; what fails leaves no file, or the one that was there.

    Args:
        made: what to compute.
        out: where, as `check_out` wants it.
        report: told how many rows are written.
        force: replace the file that is there.

    Raises:
        ConfigError: something is in its place.
        DataError: a file cannot be read.
        NumberError: a row is NaN or infinite.
        DiskError: the disk is full or failing.
        Interrupted: a signal asked to stop.
    """
    check_out(out, force)  # files have been looked at since it was asked
    module, _, name = WRITERS[out.suffix].partition(":")
    kind: Callable[[Path, Embedding], Writer] = getattr(import_module(module), name)
    done, total = 0, int(made.rows.sum())
    with stoppable() as stop, publishing(out) as partial:
        writer = kind(partial, made)
        try:
            for item in range(len(made.keys)):
                for rows_nC in made.pieces(item):
                    writer.add(item, rows_nC)
                    done += len(rows_nC)
                    report("encode", stage=made.stage, rows=done, of=total)
                    stop.check(None)
        finally:
            writer.close()
