"""A manifest, offsets or scales that cannot be true are refused before anything is allocated for them."""

from __future__ import annotations

import hashlib

import google_crc32c
import numpy as np
import pytest
from stores_harm import lie, read_all, refused

from stagewise.errors import IntegrityError
from stagewise.stores import finished, read_manifest

LIES = {
    "other format": lambda m: m.update(format=3),
    "no rows": lambda m: m.pop("rows"),
    "unknown key": lambda m: m.update(surprise=1),
    "rows as text": lambda m: m.update(rows="243"),
    "huge rows": lambda m: m.update(rows=10**15),
    "huge row": lambda m: m.update(row_shape=[10**15]),
    "huge chunk": lambda m: m.update(chunk_rows=10**15, shard_rows=10**15),
    "negative rows": lambda m: m.update(rows=-1),
    "huge items": lambda m: m.update(items=10**15),
    "rows not a bool": lambda m: m.update(saturated=True),
    "no channels": lambda m: m.update(row_shape=[]),
    "zero channels": lambda m: m.update(row_shape=[0]),
    "zero chunk": lambda m: m.update(chunk_rows=0),
    "odd shard": lambda m: m.update(shard_rows=m["shard_rows"] + 1),
    "other dtype": lambda m: m.update(dtype="float16"),
    "unknown dtype": lambda m: m.update(dtype="object"),
    "list as dtype": lambda m: m.update(dtype=["int8"]),
    "unknown compression": lambda m: m.update(compress="blosc"),
    "fingerprint": lambda m: m.update(fingerprint=None),
    "shards missing": lambda m: m["shards"].pop(),
    "shards not a list": lambda m: m.update(shards=3),
    "shard upwards": lambda m: m["shards"][0].update(path="../../secret"),
    "shard absolute": lambda m: m["shards"][0].update(path="/etc/passwd"),
    "shard rows": lambda m: m["shards"][0].update(rows=1),
    "shard bytes": lambda m: m["shards"][0].update(bytes=10**15),
    "shard sha256": lambda m: m["shards"][0].update(sha256="zz"),
    "file upwards": lambda m: m["files"].update({"../stage.json": "0" * 64}),
    "file missing": lambda m: m["files"].pop("offsets/c/0"),
    "file sha256": lambda m: m["files"].update({"zarr.json": 3}),
    "files not a table": lambda m: m.update(files=["zarr.json"]),
}


@pytest.mark.parametrize("change", LIES.values(), ids=LIES)
def test_manifest_that_lies(write, change):
    store = write("int8")
    lie(store.folder, change)
    refused(store.folder, store.folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"[[[", b'{"format": 1}', b"\xff\xfe"])
def test_manifest_that_is_not_one(write, content):
    store = write()
    path = store.folder / "store.manifest.json"
    path.write_bytes(content)
    refused(store.folder, path)
    with pytest.raises(IntegrityError):
        finished(store.folder, "f" * 64)


def test_no_manifest(write):
    store = write()
    path = store.folder / "store.manifest.json"
    path.unlink()
    refused(store.folder, path, "is missing")
    with pytest.raises(IntegrityError, match="is missing") as caught:
        read_manifest(store.folder)
    assert caught.value.exit_code == 3
    assert finished(store.folder, "f" * 64) is None


def rewrite_small(store, name, values):
    """Damage that has been made to look right: values, their CRC32C and their sha256 agree."""
    content = values.tobytes()
    content += google_crc32c.value(content).to_bytes(4, "little")
    (store.folder / "store.zarr" / name).write_bytes(content)
    lie(store.folder, lambda m: m["files"].update({name: hashlib.sha256(content).hexdigest()}))


@pytest.mark.parametrize("change", ["negative", "unsorted", "beyond", "from one"])
def test_offsets_that_cannot_be_true(write, change):
    store = write("int8")
    offsets = store.spec.offsets.copy()
    at, value = {"negative": (1, -4), "unsorted": (2, 200), "beyond": (-1, 10**15), "from one": (0, 1)}[change]
    offsets[at] = value
    rewrite_small(store, "offsets/c/0", offsets)
    with pytest.raises(IntegrityError, match="offsets do not rise from 0 to 243"):
        read_all(store.folder)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -1.0])
def test_scale_that_cannot_be_true(write, value):
    store = write("int8")
    scale_C = store.scaling.scale_C.copy()
    scale_C[3] = value
    rewrite_small(store, "scale/c/0", scale_C)
    with pytest.raises(IntegrityError, match="scale or offset is not a usable number"):
        read_all(store.folder)
