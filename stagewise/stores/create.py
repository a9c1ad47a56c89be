"""The empty Zarr group of a store: metadata of the final shapes, the small arrays, all forced to disk.

Only the writer imports this module, when it creates a store: readers (and their worker processes) do
without zarr-python.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, TransposeCodec, ZstdCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from stagewise.durable import publishing
from stagewise.stores.layout import FILL, FORMAT, STORE, Scaling, StoreSpec


def create_group(folder: Path, spec: StoreSpec, fingerprint: str, scaling: Scaling | None) -> None:
    """Create `store.zarr` in `folder`, whole or not at all: everything but the shards of `z`.

    Raises:
        DiskError: the disk is full, read-only or failing.
    """
    # In memory first: after an error zarr-python's threads may go on writing for a moment.
    files: dict[str, Buffer] = {}
    layout, packed = spec.layout, spec.compress == "zstd"
    about = {
        "format": FORMAT,
        "items": spec.items,
        "rows": spec.rows,
        "dtype": spec.dtype,
        "fingerprint": fingerprint,
    }
    group = zarr.create_group(MemoryStore(files), zarr_format=3, attributes={"stagewise": about})
    group.create_array(
        "z",
        shape=(spec.rows, *spec.row_shape),
        dtype=spec.dtype,
        chunks=(layout.chunk_rows, *spec.row_shape),
        shards=(layout.shard_rows, *spec.row_shape),
        filters=(TransposeCodec(order=(*range(1, len(spec.row_shape) + 1), 0)),) if packed else (),
        serializer=BytesCodec(endian="little"),
        compressors=(*((ZstdCodec(level=1),) if packed else ()), Crc32cCodec()),
        fill_value=FILL[spec.dtype],
    )
    # A fill value that no value equals: zarr-python leaves out a chunk that is all fill value.
    _small_array(group, "offsets", spec.offsets, -1)
    if scaling is not None:
        _small_array(group, "scale", scaling.scale_C, np.nan)
        _small_array(group, "offset", scaling.offset_C, np.nan)
    with publishing(folder / STORE) as store:
        (store / "z" / "c").mkdir(parents=True)
        for name, content in files.items():
            (store / name).parent.mkdir(parents=True, exist_ok=True)
            (store / name).write_bytes(content.to_bytes())


def _small_array(group: zarr.Group, name: str, values: npt.NDArray[Any], fill_value: float) -> None:
    group.create_array(
        name,
        data=values,
        chunks=values.shape,
        filters=(),
        compressors=(Crc32cCodec(),),
        fill_value=fill_value,
    )
