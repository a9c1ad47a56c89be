"""Every flipped bit, lost byte and lie on disk is found, and the message says where and what to type."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from stores_harm import read_all, refused, shard_path

from stagewise.errors import IntegrityError, StagewiseError
from stagewise.stores import StoreReader, verify_store


@pytest.mark.parametrize("dtype", ["float16", "int8"])
@pytest.mark.parametrize("compress", ["none", "zstd"])
def test_every_flipped_bit_in_a_shard_is_found(write, dtype, compress):
    store = write(dtype, compress)
    path = shard_path(store)
    whole = path.read_bytes()
    rng = np.random.default_rng(3)
    index_bytes = store.manifest.layout.index_bytes
    places = [*rng.integers(0, len(whole), 60), *rng.integers(len(whole) - index_bytes, len(whole), 20)]
    span = store.manifest.layout.shard_span(1)
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        message = refused(store.folder, path, "rows ", "(items ")
        first, last = map(int, message.split("rows ")[1].split(" ")[0].split("–"))
        assert span.start <= first <= last < span.stop
    path.write_bytes(whole)
    read_all(store.folder)


def test_message_names_the_items_whose_rows_are_damaged(write):
    store = write("float32")  # 16 rows a chunk and a shard of 48 rows; items of 40, 0, 17, 1, 130, … rows
    layout = store.manifest.layout
    path = shard_path(store)
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    first = layout.shard_rows
    last = first + layout.chunk_rows - 1
    owner = np.repeat(np.arange(len(store.items)), [len(item) for item in store.items])
    with pytest.raises(IntegrityError, match=f"rows {first}–{last} .items {owner[first]}–{owner[last]}. cannot"):
        read_all(store.folder)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("compress", ["none", "zstd"])
def test_truncated_emptied_longer_or_deleted_shard(write, dtype, compress):
    store = write(dtype, compress)
    path = shard_path(store)
    whole = path.read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2], b"", whole + b"\0"):
        path.write_bytes(content)
        refused(store.folder, path, "(items ")
    path.unlink()
    assert "the file is missing" in refused(store.folder, path, "(items ")


@pytest.mark.parametrize("compress", ["none", "zstd"])
def test_shard_that_goes_while_a_reader_is_open(write, compress):
    store = write("int8", compress)
    reader = StoreReader(store.folder)
    os.truncate(shard_path(store), 10)
    with pytest.raises(IntegrityError, match="the file is shorter than it was written, so rows 48–95"):
        list(reader)
    shard_path(store).unlink()
    with pytest.raises(IntegrityError, match=r"the file cannot be opened .No such file.*, so rows 48–95"):
        list(reader)


@pytest.mark.parametrize("mapped_bytes", [0, 1 << 30], ids=["read", "mapped"])
def test_checked_chunk_that_is_cut_off_later(write, mapped_bytes, monkeypatch):
    monkeypatch.setattr("stagewise.stores.read.MAPPED_BYTES", mapped_bytes)
    store = write("int8")
    reader = StoreReader(store.folder)
    list(reader)
    os.truncate(shard_path(store), 10)
    with pytest.raises(IntegrityError, match="the file (is shorter|has another length) than it was written"):
        list(reader)


def test_read_error_of_the_disk(write, monkeypatch):
    store = write("int8")
    reader = StoreReader(store.folder)

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(IntegrityError, match=r"cannot be read .Input/output error"):
        reader[0]


def test_too_many_open_files(write, monkeypatch):
    reader = StoreReader(write("int8").folder)

    def fail(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(StagewiseError, match="too many open files: type `ulimit -n"):
        reader[0]


@pytest.mark.parametrize("name", ["offsets/c/0", "z/c/1/0"])
def test_file_that_cannot_be_read(write, name, monkeypatch):
    store = write("int8")
    whole = os.open

    def fail(path, *arguments, **named):
        if str(path).endswith(name):
            raise PermissionError(13, "Permission denied")
        return whole(path, *arguments, **named)

    monkeypatch.setattr(os, "open", fail)
    problems = verify_store(store.folder)
    assert len(problems) == 1
    assert f"{name} is damaged: the file cannot be read (Permission denied)" in problems[0]


def test_swapped_shards_are_found_by_verify(write):
    store = write("float32")
    one, other = shard_path(store, 1), shard_path(store, 2)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert len(verify_store(store.folder)) == 2


@pytest.mark.parametrize(
    "name", ["zarr.json", "z/zarr.json", "offsets/zarr.json", "offsets/c/0", "scale/c/0", "offset/c/0"]
)
def test_damaged_small_file(write, name):
    store = write("int8")
    path = store.folder / "store.zarr" / name
    whole = path.read_bytes()
    for content in (whole[:-1], bytes([whole[0] ^ 4]) + whole[1:], b""):
        path.write_bytes(content)
        refused(store.folder, path)
    path.unlink()
    refused(store.folder, path)


def test_verify_without_offsets_still_names_rows(write):
    store = write("int8")
    (store.folder / "store.zarr/offsets/c/0").unlink()
    shard_path(store).write_bytes(b"")
    problems = verify_store(store.folder)
    assert len(problems) == 2
    assert "rows " in problems[1]
    assert "items" not in problems[1]


def test_verify_names_what_does_not_belong(write):
    store = write()
    stranger = store.folder / "store.zarr/z/c/0/0.partial"
    stranger.write_bytes(b"")
    assert verify_store(store.folder) == [
        f"{stranger} is not part of the store. Delete it, then type `stagewise verify` again."
    ]


def test_verify_counts_bytes(write):
    store = write()
    seen = []
    verify_store(store.folder, lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (store.manifest.bytes, store.manifest.bytes)


def test_symbolic_links_out_of_the_store_are_not_followed(write, tmp_path):
    store = write("float32")
    outside = tmp_path / "outside"
    path = shard_path(store)
    shutil.move(path, outside)
    path.symlink_to(outside)
    refused(store.folder, path, "the file is missing")
    path.unlink()
    shutil.move(outside, path)
    read_all(store.folder)
    shutil.move(path.parent, outside)
    path.parent.symlink_to(outside)
    refused(store.folder, path, "the file is missing")
    path.parent.unlink()
    shutil.move(outside, path.parent)
    shutil.move(store.folder / "store.zarr", outside)
    (store.folder / "store.zarr").symlink_to(outside)
    refused(store.folder, store.folder / "store.zarr", "the file is missing")


def test_moved_stage_folder_still_reads(write, tmp_path):
    store = write("int8")
    moved = tmp_path / "über 😀 moved"
    shutil.move(store.folder, moved)
    link = tmp_path / "link"
    link.symlink_to(moved)
    for folder in (moved, link):
        read_all(folder)
