"""An embedding as a Zarr v3 group with the arrays z, offsets, keys and, of images, grids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stagewise.embedding.embed import Embedding, Floats

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
