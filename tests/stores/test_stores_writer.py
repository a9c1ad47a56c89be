"""Writing: numbers that may not be stored, when a store starts over, what a failing writer keeps."""

from __future__ import annotations

import errno
import json

import numpy as np
import pytest
from stores_example import LENGTHS, ROWS, UNIT, break_disk, spec, write_all, write_some

from stagewise.errors import DiskError, NumberError
from stagewise.stores import Scaling, StoreReader, StoreSpec, StoreWriter, finished, remove_store, stored_scaling


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_with_their_rows(tmp_path, dtype, bad):
    rows = ROWS.copy()
    rows[22, 1] = rows[24, 0] = bad
    writer = StoreWriter(tmp_path, spec(dtype), "a", UNIT if dtype == "int8" else None)
    with writer:
        writer.append(rows[:10])
        with pytest.raises(NumberError) as caught:
            writer.append(rows[10:40])
    assert "rows 22–24 (items 2–2) hold NaN or infinity" in str(caught.value)
    assert "Check these items of the data" in str(caught.value)
    assert not (tmp_path / "store.manifest.json").exists()


def test_float16_overflow_is_an_error_never_an_infinity(tmp_path):
    rows = ROWS.copy()
    rows[3] = 65519  # still rounds to the largest float16
    with StoreWriter(tmp_path, spec("float16"), "a") as writer:
        writer.append(rows[:10])
        rows[12, 2] = -65520
        with pytest.raises(NumberError, match=r"rows 12–12 .items 0–0. overflow float16 .*use dtype = 'float32'"):
            writer.append(rows[10:])


def test_saturated_values_are_counted_over_a_resume(tmp_path):
    rows = ROWS.copy()
    rows[5, 0], rows[40, 1], rows[90, 2] = 100, -100, 50
    with StoreWriter(tmp_path, spec("int8"), "a", UNIT) as writer:
        writer.append(rows[:70])
    with StoreWriter(tmp_path, spec("int8"), "a", UNIT) as writer:
        assert writer.rows_done == 64
        writer.append(rows[64:])
        assert writer.commit().saturated == 3


def test_what_a_caller_does_wrongly(tmp_path):
    with pytest.raises(ValueError, match="a scaling goes with int8"):
        StoreWriter(tmp_path, spec("int8"), "a")
    with pytest.raises(ValueError, match="a scaling goes with int8"):
        StoreWriter(tmp_path, spec(), "a", UNIT)
    with StoreWriter(tmp_path, spec(), "a") as writer:
        with pytest.raises(ValueError, match="rows are float32"):
            writer.append(ROWS.astype(np.float64))
        with pytest.raises(ValueError, match="rows are float32"):
            writer.append(ROWS[:, :3])
        writer.append(ROWS[:90])
        with pytest.raises(ValueError, match="96 rows appended to a store of 95"):
            writer.append(ROWS[:6])
        with pytest.raises(ValueError, match="64 of 95 rows"):
            writer.commit()


def test_starts_anew_when_anything_that_matters_changed(tmp_path):
    other = Scaling.fit(ROWS.min(0) - 1, ROWS.max(0))
    changed = [
        (StoreSpec(LENGTHS, (4,), "int8", "none", 128), "b", UNIT),
        (StoreSpec(LENGTHS, (4,), "int8", "zstd", 128), "a", UNIT),
        (StoreSpec(LENGTHS, (4,), "float32", "none", 512), "a", None),
        (StoreSpec(LENGTHS[[0, 1, 3, 2]], (4,), "int8", "none", 128), "a", UNIT),
        (StoreSpec(LENGTHS, (2, 2), "int8", "none", 128), "a", Scaling.fit(np.zeros(2), np.ones(2))),
        (StoreSpec(LENGTHS, (4,), "int8", "none", 128), "a", other),
    ]
    for new_spec, fingerprint, scaling in changed:
        write_some(tmp_path, 70, "int8")
        with StoreWriter(tmp_path, new_spec, fingerprint, scaling) as writer:
            assert writer.rows_done == 0
        remove_store(tmp_path)


def test_writing_over_a_finished_store_starts_anew(tmp_path):
    write_all(tmp_path)
    with StoreWriter(tmp_path, spec(), "a") as writer:
        assert writer.rows_done == 0
        assert finished(tmp_path, "a") is None  # what is being replaced does not look finished
    assert write_all(tmp_path) == finished(tmp_path, "a")


def test_finished_asks_for_the_fingerprint_and_tidies_up(tmp_path):
    assert finished(tmp_path, "a") is None
    manifest = write_all(tmp_path)
    (tmp_path / "store.journal").write_text("left by a kill\n")
    assert finished(tmp_path, "b") is None
    assert finished(tmp_path, "a") == manifest
    assert not (tmp_path / "store.journal").exists()


def test_scaling_of_an_unfinished_store_is_found_again(tmp_path):
    assert stored_scaling(tmp_path, "a") is None
    write_some(tmp_path, 40, "int8")
    found = stored_scaling(tmp_path, "a")
    np.testing.assert_array_equal(found.scale_C, UNIT.scale_C)
    np.testing.assert_array_equal(found.offset_C, UNIT.offset_C)
    assert stored_scaling(tmp_path, "b") is None
    with StoreWriter(tmp_path, spec("int8"), "a", found) as writer:
        assert writer.rows_done == 32
    (tmp_path / "store.zarr/scale/c/0").write_bytes(b"")
    assert stored_scaling(tmp_path, "a") is None
    write_some(tmp_path, 40, "float32")
    assert stored_scaling(tmp_path, "a") is None


def test_remove_store_leaves_the_rest_of_the_folder(tmp_path):
    (tmp_path / "encoder.safetensors").write_bytes(b"x")
    write_all(tmp_path)
    remove_store(tmp_path)
    remove_store(tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "encoder.safetensors"]


def test_error_of_the_writing_thread_stops_the_next_append(tmp_path, monkeypatch):
    with StoreWriter(tmp_path, spec(), "a") as writer:
        break_disk(monkeypatch, 1, errno.ENOSPC)
        writer.append(ROWS[:32])
        while not writer._in_flight.done():
            pass
        with pytest.raises(DiskError, match=r"disk full at .*free some space"):
            writer.append(ROWS[32:33])
        monkeypatch.undo()
        with pytest.raises(DiskError):
            writer.commit()


def interrupt(writer):
    writer.append(ROWS[:40])
    raise KeyboardInterrupt


def test_an_exception_in_between_keeps_what_is_journaled(tmp_path):
    writer = StoreWriter(tmp_path, spec(), "a")
    with pytest.raises(KeyboardInterrupt), writer:
        interrupt(writer)
    lines = [json.loads(line) for line in (tmp_path / "store.journal").read_bytes().splitlines()]
    assert [line["path"] for line in lines[1:]] == ["z/c/0/0"]
    write_all(tmp_path)
    assert StoreReader(tmp_path)[3].shape == (45, 4)
