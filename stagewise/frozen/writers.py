"""Representations written to a file: npz, Zarr or Parquet."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from stagewise.arrays import Floats
from stagewise.durable import publishing, read_bytes
from stagewise.errors import ConfigError
from stagewise.frozen.encoder import Embedding
from stagewise.frozen.given_files import Report
from stagewise.signals import stoppable

# Where a command may write what somebody named with --out.


def check_place(
    out: Path,
    force: bool,
    ours: Callable[[Path], bool] | None = None,
    python: bool = False,
    option: str = "--out",
) -> None:
    """Refuse a place that is taken, or that cannot be.

    Args:
        out: the file or folder to write.
        force: replace what is there, if it is such a one.
        ours: says whether a folder is one that this command wrote; None if it writes a file.
        python: say what to write in a call, and not what to type.
        option: that names it.

    Raises:
        ConfigError: its folder is not there, or something is in its place.
    """
    place, again = (f"out, {out}", "give it force=True") if python else (f"{option} {out}", "type --force")
    if not out.parent.is_dir():
        raise ConfigError(f"{place}: there is no folder {out.parent}: make it, or name another.")
    if not os.path.lexists(out):
        return
    folder = out.is_dir() and not out.is_symlink()
    fits = not out.is_dir() if ours is None else folder and (not any(out.iterdir()) or ours(out))
    if not fits:  # one slip would delete a folder of somebody's own
        raise ConfigError(
            f"{place} is there already, and is not what this command writes: name another, or delete it yourself."
        )
    if not force:
        raise ConfigError(f"{place} is there already: name another, or {again} to replace it.")


# An embedding as a NumPy archive: arrays z, offsets, keys and, of images, grids, which `numpy.load` reads.


class NpzWriter:
    """Writes the rows as they come: how many there will be is known beforehand.

    Args:
        path: of the archive.
        made: what will be written.
    """

    def __init__(self, path: Path, made: Embedding) -> None:
        self.archive = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)
        for name, array in made.arrays.items():
            self._whole(name, array)
        # A fixed date: the same rows give the same bytes.
        self.member = self.archive.open(zipfile.ZipInfo("z.npy"), "w", force_zip64=True)
        shape = (int(made.rows.sum()), made.channels)
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.member, header)

    def add(self, _: int, rows_nC: Floats) -> None:
        """Write the next rows."""
        self.member.write(rows_nC.astype("<f4", copy=False).tobytes())

    def close(self) -> None:
        """Write the archive's table of contents."""
        self.member.close()
        self.archive.close()

    def _whole(self, name: str, array: npt.NDArray[np.generic]) -> None:
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, array)
        self.archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue())


# An embedding as a Parquet table with the columns key, row and z, a list of fixed size.

GROUP_BYTES = 2**25  # of z in a row group
GROUP_ROWS = 2**16  # in it at most


class ParquetWriter:
    """Writes row groups of one size, whatever items their rows are of.

    Args:
        path: of the table.
        made: what will be written.
    """

    def __init__(self, path: Path, made: Embedding) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.made, self.pa = made, pa
        fields = [("key", pa.string()), ("row", pa.int64()), ("z", pa.list_(pa.float32(), made.channels))]
        self.schema = pa.schema([pa.field(*field, nullable=False) for field in fields])
        self.file: Any = pq.ParquetWriter(path, self.schema)
        self.group = max(1, min(GROUP_ROWS, GROUP_BYTES // (4 * made.channels)))
        self.held: list[Floats] = []
        self.items: list[int] = []
        self.numbers: list[int] = []
        self.item = self.row = 0

    def add(self, item: int, rows_nC: Floats) -> None:
        """Take the next rows of an item."""
        if item != self.item:
            self.item, self.row = item, 0
        self.held.append(rows_nC)
        self.items += [item] * len(rows_nC)
        self.numbers += range(self.row, self.row + len(rows_nC))
        self.row += len(rows_nC)
        if len(self.items) >= self.group:
            self._write()

    def close(self) -> None:
        """Write the last row group and the table's foot."""
        self._write()
        self.file.close()

    def _write(self) -> None:
        if not self.items:
            return
        pa, z_nC = self.pa, np.concatenate(self.held)
        keys = pa.array([self.made.keys[item] for item in self.items], pa.string())
        z = pa.FixedSizeListArray.from_arrays(pa.array(z_nC.ravel()), self.made.channels)
        self.file.write_table(pa.Table.from_arrays([keys, pa.array(self.numbers), z], schema=self.schema))
        self.held, self.items, self.numbers = [], [], []


# An embedding as a Zarr v3 group with the arrays z, offsets, keys and, of images, grids.

CHUNK_BYTES = 2**20
MADE_BY = {"made_by": "stagewise embed"}  # says that the group may be replaced


class ZarrWriter:
    """Writes whole chunks only, each with its checksum; a missing one reads as NaN.

    Args:
        path: of the group.
        made: what will be written.
    """

    def __init__(self, path: Path, made: Embedding) -> None:
        import zarr

        rows = int(made.rows.sum())
        self.chunk = max(1, min(rows, CHUNK_BYTES // (4 * made.channels)))
        group = zarr.create_group(path, zarr_format=3, attributes=MADE_BY)
        codecs: Any = [zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()]
        self.array: Any = group.create_array(
            "z",
            shape=(rows, made.channels),
            chunks=(self.chunk, made.channels),
            dtype="float32",
            compressors=codecs,
            fill_value=np.nan,
        )
        for name, array in made.arrays.items():
            group.create_array(name, data=array, compressors=codecs)
        self.held: list[Floats] = []
        self.count = self.begin = 0

    def add(self, _: int, rows_nC: Floats) -> None:
        """Take the next rows."""
        self.held.append(rows_nC)
        self.count += len(rows_nC)
        if self.count >= self.chunk:
            self._write(self.count // self.chunk * self.chunk)

    def close(self) -> None:
        """Write the last chunk."""
        self._write(self.count)

    def _write(self, count: int) -> None:
        if not count:
            return
        rows_nC = np.concatenate(self.held)
        self.array[self.begin : self.begin + count] = rows_nC[:count]
        self.held, self.begin, self.count = [rows_nC[count:]], self.begin + count, self.count - count


# Write an embedding to one file, whose name says its format, while it is computed.


class Writer(Protocol):
    """A file that is being written."""

    def add(self, item: int, rows_nC: Floats) -> None:
        """Take the next rows of an item; items come in order."""

    def close(self) -> None:
        """Write what is still held back."""


WRITERS = {
    ".npz": "stagewise.frozen.writers:NpzWriter",
    ".zarr": "stagewise.frozen.writers:ZarrWriter",
    ".parquet": "stagewise.frozen.writers:ParquetWriter",
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
        raise ConfigError(f"--out {out}: the file's name must end in {' or '.join(WRITERS)}.")
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
