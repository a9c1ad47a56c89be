"""A frozen chain written to a store: its rows, its range, and going on after any interruption."""

from functools import partial

import numpy as np
import pytest
import torch
from small_data import LENGTHS, InMemory, write_store
from tiny import TOML, write_pipeline

import stagewise
from stagewise.encoding import encode as encoding
from stagewise.encoding.encode import CALIBRATION_ITEMS, CALIBRATION_ROWS, Chain, calibrate, encode, measure
from stagewise.errors import Interrupted, NumberError
from stagewise.modules import GRU, Conv1d, Recurrent
from stagewise.modules.stage_module import StageModule
from stagewise.signals import Stop
from stagewise.stores import StoreReader, StoreSpec
from stagewise.training.feed import RawSource, StoreSource

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small_pieces_and_shards(monkeypatch):
    monkeypatch.setattr(encoding, "stream", partial(encoding.stream, piece_bytes=1))
    monkeypatch.setattr(encoding, "StoreSpec", partial(StoreSpec, shard_bytes=2048))


def stages():
    torch.manual_seed(0)
    conv = StageModule(Conv1d(1, [8, 8], 4, 2, 1), None, 1)
    return [conv.eval(), StageModule(None, GRU(8, 6), 8).eval()]


def chain(dataset=None):
    return Chain(RawSource(dataset or InMemory()), stages(), CPU)


class Signal(Stop):
    """Asks to stop at the nth question."""

    def __init__(self, nth):
        self.left = nth

    def check(self, saved):
        self.left -= 1
        if self.left == 0:
            self.signal = 2
        super().check(saved)


def write(folder, dtype="float32", stop=None, reports=None, dataset=None, compress="none"):
    folder.mkdir(exist_ok=True)

    def report(kind, **facts):
        assert kind == "encode"
        if reports is not None:
            reports.append((facts["rows"], facts["of"]))

    return encode(chain(dataset), folder, dtype, compress, "a" * 64, stop or Stop(), report)


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_chain_knows_its_shape_before_it_runs():
    some = chain()
    assert (some.channels, some.geometry.hop, some.geometry.recurrent) == (6, 4, True)
    assert some.lengths.tolist() == [sum(len(r) for r in some.rows(item)) for item in range(len(LENGTHS))]
    bare = Chain(RawSource(InMemory(channels=2)), [], CPU)
    assert (bare.channels, bare.lengths.tolist()) == (2, LENGTHS.tolist())
    assert np.array_equal(np.concatenate(list(bare.rows(0))).T, InMemory(channels=2).arrays[0])


def test_a_store_holds_the_rows_of_whole_items(tmp_path):
    reports = []
    encoded = write(tmp_path / "s", reports=reports)
    store, dataset = StoreReader(tmp_path / "s"), InMemory()
    for item, x_CT in enumerate(dataset.arrays):
        if not store.lengths[item]:
            assert x_CT.shape[1] == 0
            continue
        x = torch.from_numpy(x_CT)[None]
        with torch.no_grad():
            for stage in stages():
                x = stage(x)[1]
        np.testing.assert_allclose(store[item], x[0].T.numpy(), rtol=0, atol=1e-6)
        assert np.array_equal(store[item], np.concatenate(list(chain().rows(item))))
    rows = int(store.lengths.sum())
    assert reports[-1] == (rows, rows)
    assert reports == sorted(reports)
    assert encoded.manifest.rows == rows
    assert 0 < encoded.forward_seconds < encoded.seconds


def test_a_chain_on_a_store_of_the_stage_below(tmp_path):
    low, high = stages()
    below = Chain(RawSource(InMemory()), [low], CPU)
    items = [np.concatenate([np.empty((0, 8), np.float32), *below.rows(item)]) for item in range(len(LENGTHS))]
    on_store = Chain(StoreSource(write_store(tmp_path / "below", items)), [high], CPU)
    assert on_store.lengths.tolist() == chain().lengths.tolist()
    for item in np.flatnonzero(LENGTHS).tolist():
        ours, direct = (np.concatenate(list(c.rows(item))) for c in (on_store, chain()))
        assert np.array_equal(ours, direct)


@pytest.mark.parametrize(
    ("dtype", "compress", "step"), [("int8", "none", 1), ("float32", "none", 2), ("float16", "zstd", 2)]
)
def test_any_interruption_gives_the_same_bytes(tmp_path, dtype, compress, step):
    go = partial(write, dtype=dtype, compress=compress, dataset=InMemory(lengths=[520, 0, 900, 410]))
    undisturbed = Signal(0)
    go(tmp_path / "whole", stop=undisturbed)
    expected, stored = content(tmp_path / "whole"), set()
    for nth in range(1, 1 - undisturbed.left, step):
        folder = tmp_path / str(nth)
        with pytest.raises(Interrupted) as raised:
            go(folder, stop=Signal(nth))
        stored.add(str(raised.value).split(": ")[1].split()[0])
        go(folder)
        assert content(folder) == expected
    assert len(stored) > 1  # interruptions fell into several shards


@pytest.mark.parametrize(("signal", "seconds"), [(True, 1e9), (False, -1.0)])
def test_no_row_of_a_shard_that_is_not_full_is_lost(tmp_path, monkeypatch, signal, seconds):
    """A signal keeps what there is; what neither a signal nor a plug announces was written now and then."""
    monkeypatch.setattr(encoding, "KEPT_SECONDS", seconds)
    monkeypatch.setattr(encoding, "StoreSpec", partial(StoreSpec, shard_bytes=2**20))
    go = partial(write, dtype="int8", dataset=InMemory(lengths=[520, 0, 900, 410]))
    go(tmp_path / "whole")
    stop, reports = Stop(), []
    (tmp_path / "s").mkdir()

    def report(kind, rows, of):
        assert (kind, stop.signal) == ("encode", None)
        reports.append(rows)
        if rows > 250:
            if not signal:
                raise KeyboardInterrupt
            stop.signal = 15

    for _ in range(2):  # the second time after one piece
        with pytest.raises((Interrupted, KeyboardInterrupt)) as raised:
            encode(chain(InMemory(lengths=[520, 0, 900, 410])), tmp_path / "s", "int8", "none", "a" * 64, stop, report)
        assert signal == (f"{reports[-1]} of 457 rows are stored" in str(raised.value))
        stop.signal = None
    assert (tmp_path / "s/store.journal").read_bytes().count(b"\n") == 1  # not one shard is full
    resumed = []
    go(tmp_path / "s", reports=resumed)
    assert resumed[0][0] == (355 if signal else 258)  # no piece is computed twice
    assert content(tmp_path / "s") == content(tmp_path / "whole")


def remembering(gru):
    """Let it forget slowly: a wrong state shows in many rows."""
    hidden = gru.gru.hidden_size
    gru.gru.bias_ih_l0.data[hidden : 2 * hidden] = 5
    return gru


def networks():
    """Stages of which what is kept of an item lies in different places."""
    torch.manual_seed(0)
    low = StageModule(Conv1d(1, 6, 4, 2, 1), None, 1)
    both = StageModule(Conv1d(1, 6, [5, 3], [3, 1], [2, 1]), remembering(GRU(6, 5)), 1)
    rare = StageModule(Conv1d(5, 4, 2, 3), None, 5)  # a row of three is seen by nothing
    return {
        "local": [low, StageModule(Conv1d(6, 4, 3, 2, 1), None, 6)],
        "on top": [low, StageModule(None, remembering(GRU(6, 5)), 6)],
        "between": [both, rare],
        "two": [both, StageModule(Conv1d(5, 6, 3, 1, 1), remembering(GRU(6, 5)), 5)],
    }


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("shard_bytes", [2048, 2**20])
@pytest.mark.parametrize("which", networks())
def test_a_long_item_goes_on_where_it_was(tmp_path, monkeypatch, which, shard_bytes, killed):
    """The same bytes, and hardly a sample is read again; a kill loses what was computed since rows were kept."""
    monkeypatch.setattr(encoding, "StoreSpec", partial(StoreSpec, shard_bytes=shard_bytes))
    dataset, stages, read = InMemory(lengths=[300, 8_000]), [s.eval() for s in networks()[which]], []

    class Spy(RawSource):
        def gather(self, items, starts, span):
            read.append(int(starts[0]))
            return super().gather(items, starts, span)

    def go(folder, at=None):
        folder.mkdir(exist_ok=True)
        stop, rows_seen = Stop(), []

        def report(kind, rows, of):
            rows_seen.append(rows)
            monkeypatch.setattr(encoding, "KEPT_SECONDS", -1.0 if len(rows_seen) == 2 else 1e9)
            if at is not None and rows - rows_seen[0] > at:
                stop.signal = 15
                if killed:
                    raise KeyboardInterrupt

        read.clear()
        encode(Chain(Spy(dataset), stages, CPU), folder, "float32", "none", "a" * 64, stop, report)
        return rows_seen

    reported, first = go(tmp_path / "whole"), []
    for _ in range(3):
        with pytest.raises((Interrupted, KeyboardInterrupt)):
            go(tmp_path / "s", at=0.2 * reported[-1])
        first.append(read[0])
    resumed = go(tmp_path / "s")
    first.append(read[0])
    assert content(tmp_path / "s") == content(tmp_path / "whole")
    if not killed:
        assert first == sorted(set(first))
        assert first[-1] > 0.55 * 8_000
        assert set(resumed) < set(reported)
    elif which == "local" and shard_bytes == 2048:  # what is published needs no state
        assert first[-1] > 0.55 * 8_000


def test_what_was_kept_of_an_item_is_of_no_use_to_another(tmp_path, monkeypatch):
    both = stages()
    remembering(both[1].context)
    monkeypatch.setitem(globals(), "stages", lambda: both)
    write(tmp_path / "whole")

    def cut(kind, rows, of):
        monkeypatch.setattr(encoding, "KEPT_SECONDS", -1.0 if rows < 420 else 1e9)
        if rows > 1150:  # shards of the next items were published since then
            raise KeyboardInterrupt

    (tmp_path / "s").mkdir()
    with pytest.raises(KeyboardInterrupt):
        encode(chain(), tmp_path / "s", "float32", "none", "a" * 64, Stop(), cut)
    assert (tmp_path / "s/store.kept").exists()
    write(tmp_path / "s")
    assert content(tmp_path / "s") == content(tmp_path / "whole")


def test_a_state_of_another_kind_is_not_kept(tmp_path, monkeypatch):
    """A recurrent module of one's own may carry a pair of tensors: its items start over."""

    class Lstm(Recurrent):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(8, 6, batch_first=True)

        def advance(self, x_BCT, state):
            y_BTC, state = self.lstm(x_BCT.transpose(1, 2), state)
            return y_BTC.transpose(1, 2), state

    torch.manual_seed(0)
    both = [stages()[0], StageModule(None, Lstm(), 8).eval()]
    monkeypatch.setitem(globals(), "stages", lambda: both)
    write(tmp_path / "whole")
    for nth in (2, 4, 7):
        with pytest.raises(Interrupted):
            write(tmp_path / "s", stop=Signal(nth))
    write(tmp_path / "s")
    assert content(tmp_path / "s") == content(tmp_path / "whole")


def test_a_resumed_store_goes_on_where_it_was(tmp_path):
    with pytest.raises(Interrupted) as raised:
        write(tmp_path / "s", stop=Signal(18))
    done = int(str(raised.value).split(" of ")[0].rsplit(" ", 1)[1])
    assert done > 0
    assert str(raised.value).startswith("stopped by SIGINT: ")
    assert str(raised.value).endswith(" rows are stored. Type the same command again to go on.")
    reports = []
    write(tmp_path / "s", reports=reports)
    assert reports[0][0] > done
    assert reports[0][0] <= done + 4 * 80  # a shard that was on its way came through


def test_int8_is_as_exact_as_its_step(tmp_path):
    encoded = write(tmp_path / "s", "int8")
    store = StoreReader(tmp_path / "s")
    scaling = calibrate(chain(), Stop())
    assert np.array_equal(store.scaling.scale_C, scaling.scale_C)
    assert encoded.manifest.saturated == 0  # every item was looked at
    rows = np.concatenate([np.concatenate(list(chain().rows(i))) for i in np.flatnonzero(LENGTHS)])
    read = np.concatenate([store[item] for item in range(len(LENGTHS))])
    assert (np.abs(read - rows) <= scaling.scale_C * (0.5 + 1e-5)).all()
    reach = 1.25 * (rows.max(0) - rows.min(0)) / 2
    assert (scaling.scale_C >= 0.999 * reach / 127).all()
    assert (scaling.scale_C <= 1.02 * reach / 127).all()


@pytest.mark.parametrize(
    ("low", "high", "wider"),
    [
        (0, 8, (0, 10)),
        (-8, 0, (-10, 0)),
        (-2, 2, (-2.5, 2.5)),
        (4, 8, (3.5, 8.5)),
        (0.1, 10.1, (0, 11.35)),
        (3, 3, (3, 3)),
        (0, 0, (0, 0)),
    ],
)
def test_calibration_leaves_room_but_not_below_a_relus_zero(low, high, wider):
    class Ends(InMemory):
        def read(self, item, start, stop):
            return np.where(np.arange(start, stop) % 2, np.float32(low), np.float32(high))[None]

    scaling = calibrate(Chain(RawSource(Ends()), [], CPU), Stop())
    found = scaling.offset_C + scaling.scale_C * np.array([-127, 127])
    step = scaling.scale_C.item()
    assert found == pytest.approx(wider, abs=max(step, 1e-30))
    assert scaling.quantise(np.array(wider, np.float32)[:, None])[1] == 0


def test_calibration_looks_at_items_from_everywhere():
    dataset = InMemory(lengths=[0, *[120] * 100, 0])
    looked = []

    class Spy(RawSource):
        def gather(self, items, starts, span):
            looked.extend(items.tolist())
            return super().gather(items, starts, span)

    calibrate(Chain(Spy(dataset), stages(), CPU), Stop())
    assert len(set(looked)) == CALIBRATION_ITEMS
    assert (min(looked), max(looked)) == (1, 100)


def test_calibration_looks_everywhere_in_a_long_item():
    dataset = InMemory(lengths=[600_000])
    dataset.arrays[0][:, 300_000:303_000] *= 50  # quiet before and after
    looked = []

    class Spy(RawSource):
        def gather(self, items, starts, span):
            looked.extend((int(start), int(start) + span) for start in starts)
            return super().gather(items, starts, span)

    scaling = calibrate(Chain(Spy(dataset), [], CPU), Stop())
    starts = sorted({start for start, _ in looked})
    assert (starts[0], max(end for _, end in looked)) == (0, 600_000)
    assert max(np.diff(starts)) < 3000
    assert sum(end - start for start, end in looked) == CALIBRATION_ROWS
    assert scaling.scale_C.item() * 127 > 50


@pytest.mark.parametrize(("start", "stop"), [(0, 40), (200, 340), (380, 420)])
def test_a_segment_is_these_rows_of_the_whole(start, stop):
    dataset = InMemory(lengths=[77, 9_000])
    whole = Chain(RawSource(dataset), stages()[:1], CPU)
    rows = np.concatenate(list(whole.rows(1)))
    assert len(rows) > 420
    np.testing.assert_allclose(whole.segment(1, start, stop), rows[start:stop], rtol=1e-5, atol=1e-6)


class Tails(InMemory):
    """One channel of noise, one of noise that is seldom large, one that is constant."""

    def __init__(self):
        super().__init__(lengths=[20_000] * 3, channels=3)
        for array_CT in self.arrays:
            array_CT[1, 100] = 400
            array_CT[2] = 5


def test_the_channel_that_int8_keeps_worst_is_known():
    found = measure(Chain(RawSource(Tails()), [], CPU), Stop())
    rows = np.concatenate([array_CT.T for array_CT in Tails().arrays])
    error = found.scaling.dequantise(found.scaling.quantise(rows)[0]) - rows
    expected = 10 * np.log10(rows[:, :2].var(0) / error[:, :2].var(0))
    assert found.sqnr_C[:2] == pytest.approx(expected, abs=0.5)
    assert found.sqnr_C[2] == np.inf
    assert found.worst == (1, found.sqnr_C[1])
    assert found.sqnr_C[1] < 15 < 30 < found.sqnr_C[0]


def test_a_store_that_keeps_a_channel_coarsely_says_so(tmp_path):
    data = 'target = "test_encoding_encode:Tails"'
    text = TOML.split('[[stage]]\nname = "two"')[0].replace('target = "tiny:TinySpeech"', data)
    text = text.replace("in_channels = 1,", "in_channels = 3,")
    told = []
    facts = stagewise.run(
        write_pipeline(tmp_path, text),
        run=tmp_path / "run",
        set={"defaults.train.epochs": 0, "stage.one.store.write": True},
        report=lambda kind, **facts: told.append(facts["text"]) if kind == "note" else None,
    )
    worst = facts["stages"][0]["store"]["worst_channel"]
    assert worst["sqnr_db"] < 20
    (said,) = (text for text in told if "coarsely" in text)
    assert said.startswith("stage one: int8 keeps ")
    assert f"channel {worst['channel']} the worst, with {worst['sqnr_db']:.0f} dB" in said
    assert said.endswith('`--set stage.one.store.dtype="float16"` keeps them as they are.')


def test_values_outside_the_calibrated_range_are_counted(tmp_path):
    dataset = InMemory(lengths=[300] * 100)
    dataset.arrays[1] *= 100  # an item that calibration does not look at
    encoded = write(tmp_path / "s", "int8", dataset=dataset)
    assert encoded.manifest.saturated > 0


def test_no_rows_at_all(tmp_path):
    encoded = write(tmp_path / "s", "int8", dataset=InMemory(lengths=[0, 2]))
    assert encoded.manifest.rows == 0
    assert StoreReader(tmp_path / "s")[1].shape == (0, 6)


def test_an_interrupted_calibration_has_written_nothing(tmp_path):
    with pytest.raises(Interrupted, match="nothing of this store was written yet") as raised:
        write(tmp_path / "s", "int8", Signal(1))
    assert raised.value.exit_code == 130
    assert content(tmp_path / "s") == {}


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_nan_is_never_stored(tmp_path, monkeypatch, dtype):
    broken = stages()
    broken[1].context.gru.weight_hh_l0.data[0, 0] = torch.nan
    monkeypatch.setitem(globals(), "stages", lambda: broken)
    with pytest.raises(NumberError, match="Lower lr"):
        write(tmp_path / "s", dtype)
    assert not (tmp_path / "s" / "store.manifest.json").exists()
