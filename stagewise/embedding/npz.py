"""An embedding as a NumPy archive: arrays z, offsets, keys and, of images, grids, which `numpy.load` reads."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stagewise.embedding.embed import Embedding, Floats


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
