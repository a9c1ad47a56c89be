"""What is written is what is read: by us, by zarr-python and by tensorstore, for every kind of store."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr

from stagewise.errors import IntegrityError
from stagewise.stores import StoreReader, StoreSpec, read_manifest, verify_store

KINDS = [(dtype, compress) for dtype in ("float32", "float16", "int8") for compress in ("none", "zstd")]


@pytest.mark.parametrize(("dtype", "compress"), KINDS)
@pytest.mark.parametrize("row_shape", [(24,), (3, 8)])
def test_reads_back_every_item_and_every_window(write, dtype, compress, row_shape):
    store = write(dtype, compress, row_shape=row_shape)
    assert store.manifest.layout.shards > 3  # windows cross chunks and shards
    with StoreReader(store.folder) as reader:
        assert len(reader) == len(store.items)
        assert reader.lengths.tolist() == [len(item) for item in store.items]
        for number, item in enumerate(store.items):
            assert reader[number].dtype == np.float32
            np.testing.assert_array_equal(reader[number], item)
            for start in range(0, len(item), 7):
                stop = min(len(item), start + 45)
                np.testing.assert_array_equal(reader.read(number, start, stop), item[start:stop])
                out = np.empty((stop - start, *row_shape), dtype)
                reader.read_raw(number, start, out)
                np.testing.assert_array_equal(out, store.raw[number][start:stop])
        np.testing.assert_array_equal(reader[-2], store.items[-2])
    assert verify_store(store.folder) == []


@pytest.mark.parametrize(("dtype", "compress"), KINDS)
@pytest.mark.parametrize("row_shape", [(24,), (3, 8)])
def test_zarr_python_and_tensorstore_read_the_same(write, dtype, compress, row_shape):
    tensorstore = pytest.importorskip("tensorstore")
    store = write(dtype, compress, row_shape=row_shape)
    expected = np.concatenate(store.raw)
    group = zarr.open_group(store.folder / "store.zarr", mode="r")
    np.testing.assert_array_equal(group["z"][:], expected)
    assert group["offsets"][:].tolist() == store.spec.offsets.tolist()
    about = dict(group.attrs["stagewise"])
    assert about == {
        "format": 2,
        "items": len(store.items),
        "rows": len(expected),
        "dtype": dtype,
        "fingerprint": "f" * 64,
    }
    path = str(store.folder / "store.zarr" / "z")
    z = tensorstore.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}).result()
    np.testing.assert_array_equal(z.read().result(), expected)
    if dtype == "int8":
        dequantised = expected * group["scale"][:] + group["offset"][:]
        np.testing.assert_array_equal(dequantised, np.concatenate(store.items))


def test_zarr_reads_a_hole_in_floats_as_nan_and_ours_refuses_it(write):
    store = write("float32")
    (store.folder / "store.zarr" / store.manifest.shards[1].path).unlink()
    span = store.manifest.layout.shard_span(1)
    z = zarr.open_group(store.folder / "store.zarr", mode="r")["z"]
    assert np.isnan(z[span.start : span.stop]).all()
    with pytest.raises(IntegrityError, match="the file is missing"):
        StoreReader(store.folder)


@pytest.mark.parametrize(("dtype", "compress"), KINDS)
@pytest.mark.parametrize("lengths", [(), (0,), (0, 0, 0), (1,), (16,), (0, 16, 0)])
def test_empty_stores_and_empty_items(write, dtype, compress, lengths):
    store = write(dtype, compress, lengths=lengths)
    reader = StoreReader(store.folder)
    assert [reader[i].shape for i in range(len(reader))] == [(n, 24) for n in lengths]
    np.testing.assert_array_equal(np.concatenate([np.empty((0, 24)), *reader]).shape, (sum(lengths), 24))
    assert zarr.open_group(store.folder / "store.zarr", mode="r")["offsets"][-1] == sum(lengths)
    assert verify_store(store.folder) == []


@pytest.mark.parametrize(
    ("compress", "mapped_bytes"),
    [("none", 0), ("none", 10_000), ("none", 1 << 30), ("zstd", 0)],
    ids=["no map", "some mapped", "all mapped", "zstd"],
)
def test_five_threads_share_a_reader_with_few_open_files(write, compress, mapped_bytes, monkeypatch):
    monkeypatch.setattr("stagewise.stores.read.OPEN_SHARDS", 2)  # files are closed under threads that read
    monkeypatch.setattr("stagewise.stores.read.MAPPED_BYTES", mapped_bytes)
    store = write("int8", compress)
    reader = StoreReader(store.folder)

    def read(seed):
        rng = np.random.default_rng(seed)
        for _ in range(300):
            number = int(rng.integers(len(store.items)))
            start, stop = sorted(rng.integers(0, len(store.items[number]) + 1, 2).tolist())
            np.testing.assert_array_equal(reader.read(number, start, stop), store.items[number][start:stop])
        return True

    with ThreadPoolExecutor(5) as pool:
        assert all(pool.map(read, range(5)))


@pytest.mark.parametrize("compress", ["none", "zstd"])
def test_forked_worker_goes_on_with_its_parents_reader(write, compress):
    store = write("int8", compress)
    reader = StoreReader(store.folder)
    list(reader)

    def read_in_child():
        for number, item in enumerate(store.items):
            np.testing.assert_array_equal(reader[number], item)

    child = multiprocessing.get_context("fork").Process(target=read_in_child)
    child.start()
    read_in_child()
    child.join(20)
    assert child.exitcode == 0


@pytest.mark.parametrize(("mapped_bytes", "files_a_shard"), [(0, 1), (1 << 30, 2)], ids=["read", "mapped"])
def test_a_reader_let_go_closes_its_files(write, mapped_bytes, files_a_shard, monkeypatch):
    monkeypatch.setattr("stagewise.stores.read.MAPPED_BYTES", mapped_bytes)
    store = write("int8")
    if not sys.platform.startswith("linux"):
        pytest.skip("counts open files in /proc, which other systems do not have")
    before = len(os.listdir("/proc/self/fd"))
    reader = StoreReader(store.folder)
    list(reader)
    assert len(os.listdir("/proc/self/fd")) == before + files_a_shard * store.manifest.layout.shards
    del reader
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_a_caller_asks_wrongly(write):
    reader = StoreReader(write("int8").folder)
    for item, start, stop in [(0, 0, 41), (0, -1, 3), (8, 0, 1), (-1, 0, 0), (1, 0, 1)]:
        with pytest.raises(IndexError):
            reader.read(item, start, stop)
    with pytest.raises(IndexError):
        reader[8]
    with pytest.raises(ValueError, match="rows are int8"):
        reader.read_raw(0, 0, np.empty((3, 24), np.float32))
    with pytest.raises(ValueError, match="rows are int8"):
        reader.read_raw(0, 0, np.empty((3, 23), np.int8))


def test_manifest_says_what_there_is(write):
    store = write("int8")
    manifest = read_manifest(store.folder)
    assert manifest == store.manifest
    files = [path for path in (store.folder / "store.zarr").rglob("*") if path.is_file()]
    assert manifest.bytes == sum(path.stat().st_size for path in files)
    assert manifest.float32_bytes == sum(item.size * 4 for item in store.items)
    assert {path.name for path in store.folder.iterdir()} == {"store.zarr", "store.manifest.json"}
    assert json.loads((store.folder / "store.manifest.json").read_text())["format"] == 2


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_predicted_bytes_are_the_bytes_but_for_metadata(write, dtype):
    store = write(dtype)
    assert store.spec.predicted_bytes < store.manifest.bytes < store.spec.predicted_bytes + 8192


def test_chunks_and_shards_have_the_sizes_they_should():
    for channels, dtype, chunk_rows in [
        (512, "int8", 512),
        (512, "float16", 512),
        (512, "float32", 256),
        (256, "int8", 512),
        (700, "float32", 128),
        (10**6, "float32", 16),
    ]:
        spec = StoreSpec(np.array([10**6]), (channels,), dtype)
        assert spec.chunk_rows == chunk_rows
        assert spec.shard_rows % chunk_rows == 0
        assert spec.shard_rows * spec.layout.row_bytes <= 64 << 20
    assert StoreSpec(np.array([10**6]), (512,), "int8", "zstd").chunk_rows == 128
    small = StoreSpec(np.array([100]), (700,), "float32")
    assert (small.chunk_rows, small.shard_rows) == (128, 128)


def test_a_spec_that_cannot_be():
    lengths = np.array([3])
    for arguments in [(lengths, (4,), "bfloat16"), (lengths, (4,), "int8", "blosc")]:
        with pytest.raises(ValueError, match="no store of dtype"):
            StoreSpec(*arguments)
    for row_shape in [(), (0,), (4, -1)]:
        with pytest.raises(ValueError, match="at least one axis"):
            StoreSpec(lengths, row_shape)
    with pytest.raises(ValueError, match="non-negative"):
        StoreSpec(np.array([3, -1]), (4,))


def test_reading_needs_neither_zarr_nor_torch(write):
    store = write("int8", "zstd")
    code = (
        "import sys, pathlib; from stagewise.stores import StoreReader;"
        "print(len(StoreReader(pathlib.Path(sys.argv[1]))[0])); "
        "assert not {'zarr', 'torch', 'pydantic'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, store.folder], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "40\n", "")


def test_threads_that_open_more_shards_than_stay_open(write, monkeypatch):
    class Slow(dict):
        """Lets another thread run between finding the oldest shard and taking it out."""

        def __iter__(self):
            oldest = next(super().__iter__())
            time.sleep(0.002)
            return iter([oldest])

    monkeypatch.setattr("stagewise.stores.read.OPEN_SHARDS", 2)
    monkeypatch.setattr("stagewise.stores.read.MAPPED_BYTES", 0)
    shards = StoreReader(write("int8").folder)._shards
    shards._others = Slow()
    numbers = np.random.default_rng(0).integers(0, 6, (4, 60))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda row: [shards[int(number)] for number in row], numbers))
    assert len(shards._others) == 2


def test_a_file_system_without_maps_is_read_all_the_same(write, monkeypatch):
    def fail(*_, **__):
        raise OSError(19, "No such device")

    monkeypatch.setattr("stagewise.stores.read.mmap.mmap", fail)
    store = write("int8")
    reader = StoreReader(store.folder)
    for _ in range(2):
        for number, rows in enumerate(store.items):
            np.testing.assert_array_equal(reader[number], rows)


def test_a_plain_store_of_the_format_before_is_read(write):
    store = write("int8")
    path = store.folder / "store.manifest.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 1'))
    np.testing.assert_array_equal(StoreReader(store.folder)[0], store.items[0])
    packed = write("int8", "zstd")
    path = packed.folder / "store.manifest.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(IntegrityError, match="its format is 1, of another version"):
        StoreReader(packed.folder)
