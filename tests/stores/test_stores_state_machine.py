"""A store that is written, killed and resumed at random holds what a list of arrays holds, byte for byte."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from stagewise.stores import Scaling, StoreReader, StoreSpec, StoreWriter, verify_store

CHANNELS = 3


class WriterMachine(RuleBasedStateMachine):
    @initialize(
        lengths=st.lists(st.integers(0, 40), max_size=8),
        dtype=st.sampled_from(["float32", "float16", "int8"]),
        compress=st.sampled_from(["none", "zstd"]),
        shard_chunks=st.integers(1, 3),
        seed=st.integers(0, 99),
    )
    def begin(self, lengths, dtype, compress, shard_chunks, seed):
        rng = np.random.default_rng(seed)
        self.items = [rng.standard_normal((n, CHANNELS), dtype=np.float32) for n in lengths]
        self.rows = np.concatenate([np.empty((0, CHANNELS), np.float32), *self.items])
        self.scaling = Scaling.fit(np.full(CHANNELS, -2.0), np.full(CHANNELS, 2.0)) if dtype == "int8" else None
        shard_bytes = 16 * CHANNELS * np.dtype(dtype).itemsize * shard_chunks
        self.spec = StoreSpec(np.array(lengths, np.int64), (CHANNELS,), dtype, compress, shard_bytes)
        self.folder, self.kept = Path(tempfile.mkdtemp()), (0, 0)
        self.open()

    def open(self):
        self.writer = StoreWriter(self.folder, self.spec, "f", self.scaling)
        self.next = self.writer.rows_done

    @rule(count=st.integers(0, 60))
    def append(self, count):
        count = min(count, self.spec.rows - self.next)
        self.writer.append(self.rows[self.next : self.next + count])
        self.next += count

    @rule()
    def keep(self):
        self.writer.keep()
        assert self.writer.rows_done == self.next
        if self.next % self.spec.shard_rows and self.next < self.spec.rows:
            self.kept = self.next - self.next % self.spec.shard_rows, self.next

    @rule(left=st.sampled_from(["nothing", "partial", "torn line", "lost line", "damaged rows"]))
    def kill(self, left):
        published = self.spec.layout.shards if self.next == self.spec.rows else self.next // self.spec.shard_rows
        self.writer.__exit__(None, None, None)  # a thread cannot be killed: its last shard is complete
        journal = self.folder / "store.journal"
        lines = journal.read_bytes().splitlines(keepends=True)
        assert len(lines) == 1 + published
        if left == "partial":
            (self.folder / "store.zarr/z/c/0.partial").write_bytes(b"half a shard")
        elif left == "torn line":
            journal.write_bytes(b"".join(lines) + b'{"path": "z/')
        elif left == "lost line" and published:
            published -= 1
            journal.write_bytes(b"".join(lines[:-1]))
        elif left == "damaged rows" and self.kept[1]:  # once: the same bit changed again would mend it
            kept = (self.folder / "store.kept").read_bytes()
            (self.folder / "store.kept").write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
            self.kept = 0, 0
        self.open()
        first, end = self.kept
        done = min(published * self.spec.shard_rows, self.spec.rows)
        assert self.next == (end if first == done and end else done)

    def teardown(self):
        if not hasattr(self, "folder"):
            return
        self.writer.append(self.rows[self.next :])
        self.writer.commit()
        assert {path.name for path in self.folder.iterdir()} == {"store.zarr", "store.manifest.json"}
        assert verify_store(self.folder) == []
        reader = StoreReader(self.folder)
        assert len(reader) == len(self.items)
        for number, item in enumerate(self.items):
            if self.scaling is None:
                expected = item.astype(self.spec.dtype).astype(np.float32)
            else:
                expected = self.scaling.dequantise(self.scaling.quantise(item)[0])
            np.testing.assert_array_equal(reader[number], expected)
        shutil.rmtree(self.folder)


WriterMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=8, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
test_writer_machine = WriterMachine.TestCase
