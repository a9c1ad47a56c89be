"""Stores: the representation of every item by a frozen stage, on disk, as plain Zarr v3 that cannot lie.

Items lie one after another along axis 0 (`z[offsets[i]:offsets[i+1]]` is item i).
One writer at a time, any number of readers.
"""

from stagewise.stores.layout import Layout, Scaling, StoreSpec
from stagewise.stores.manifest import Manifest, Shard, read_manifest, verify_store
from stagewise.stores.read import StoreReader
from stagewise.stores.write import StoreWriter, finished, remove_store, stored_scaling

__all__ = [
    "Layout",
    "Manifest",
    "Scaling",
    "Shard",
    "StoreReader",
    "StoreSpec",
    "StoreWriter",
    "finished",
    "read_manifest",
    "remove_store",
    "stored_scaling",
    "verify_store",
]
