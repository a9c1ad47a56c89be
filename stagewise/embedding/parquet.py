"""An embedding as a Parquet table with the columns key, row and z, a list of fixed size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stagewise.embedding.embed import Embedding, Floats

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
