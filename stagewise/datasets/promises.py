"""Does a data set of one's own keep what `Dataset` promises?"""

from __future__ import annotations

import numpy as np

from stagewise.datasets.base import Dataset, Floats
from stagewise.datasets.labels import FrameTable, ItemLabels
from stagewise.errors import ConfigError, DataError


def check_promises(dataset: Dataset, where: str) -> None:
    """Refuse a data set whose attributes or methods are not what the base class says.

    Args:
        dataset: of a class of one's own.
        where: what the message begins with.

    Raises:
        ConfigError: one of them is not.
    """

    def refuse(what: str) -> ConfigError:
        return ConfigError(f"{where}: {type(dataset).__qualname__}: {what} (see stagewise.datasets.Dataset).")

    keys = list(dataset.keys)
    if not all(isinstance(key, str) and "\n" not in key and "\r" not in key for key in keys):
        raise refuse("`keys` must be texts without line breaks")
    if len(set(keys)) < len(keys):
        raise refuse("`keys` must be unique")
    lengths = dataset.lengths
    if not _whole(lengths) or lengths.shape != (len(keys),):
        raise refuse(f"`lengths` must be an array of int64, one for each of its {len(keys):,} keys")
    for name, items in (("split('train')", dataset.split("train")), ("split('test')", dataset.split("test"))):
        if not _whole(items) or items.ndim != 1 or not ((items >= 0) & (items < len(keys))).all():
            raise refuse(f"`{name}` must give an array of int64, numbers of items from 0 to {len(keys) - 1:,}")
    for name, table in dataset.labels.items():
        if not isinstance(table, ItemLabels | FrameTable):
            raise refuse(f"`labels['{name}']` must be an ItemLabels or a FrameTable")
        count = len(table.classes) if isinstance(table, ItemLabels) else len(table.offsets) - 1
        if count != len(keys):
            raise refuse(f"`labels['{name}']` is of {count:,} items, and there are {len(keys):,} keys")
    if not isinstance(found := dataset.fingerprint(), str) or not found:
        raise refuse("`fingerprint()` must give a text that changes with whatever changes training")


def read_rows(dataset: Dataset, item: int, start: int, stop: int) -> Floats:
    """Read rows of an item as its data set gives them: numpy would spread what is too small, and None would be NaN.

    Raises:
        DataError: they cannot be read, or are no array of the promised shape.
    """
    rows, shape = dataset.read(item, start, stop), (dataset.row_shape[0], stop - start, *dataset.row_shape[1:])
    if np.shape(rows) != shape:
        raise DataError(
            f"{type(dataset).__qualname__}.read gives an array of shape {np.shape(rows)} for rows {start} to {stop} of "
            f"item {dataset.keys[item]}: it must be float32 of shape {shape}."
        )
    return rows


def _whole(numbers: object) -> bool:
    return isinstance(numbers, np.ndarray) and np.issubdtype(numbers.dtype, np.integer)
