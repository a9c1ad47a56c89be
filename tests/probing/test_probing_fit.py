"""Fitting against scikit-learn, and where a linear probe must fail."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from stagewise.errors import Interrupted
from stagewise.probing.features import Features
from stagewise.probing.fit import _batches, fit
from stagewise.signals import Stop

CPU = torch.device("cpu")


class Given(Features):
    """Examples that are there already, in segments of a few, one item each."""

    def __init__(self, x_NC, y_N, sizes=1):
        self.channels = x_NC.shape[1]
        cuts = np.cumsum(np.broadcast_to(sizes, -(-len(x_NC) // np.max(sizes))))[:-1] if sizes != 1 else None
        self.x = np.split(x_NC, cuts) if cuts is not None else list(x_NC[:, None])
        self.y = np.split(y_N, cuts) if cuts is not None else list(y_N[:, None])
        self.items = np.arange(len(self.x))
        self.counts = np.array([len(x) for x in self.x])

    def read(self, segment):
        return self.x[segment].astype(np.float32), self.y[segment].astype(np.int64)

    def rows(self, segment):
        return np.arange(self.counts[segment])


def blobs(examples=900, channels=8, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((classes, channels)) * 1.1
    y_N = rng.integers(0, classes, examples)
    scales = np.logspace(-3, 3, channels)  # a probe standardises
    return ((centres[y_N] + rng.standard_normal((examples, channels))) * scales + 5 * scales), y_N


def go(features, classes, hidden=None, epochs=40, batch_size=32, lr=1e-2, seed=0, split=None, **other):
    train, test = split or (features.items[features.items % 3 != 0], features.items[features.items % 3 == 0])
    arguments = {"device": CPU, "stop": Stop(), "report": lambda *_, **__: None} | other
    return fit(
        features,
        train,
        test,
        classes,
        hidden,
        epochs,
        batch_size,
        lambda probe: torch.optim.Adam(probe.parameters(), lr=lr),
        seed,
        **arguments,
    )


def accuracy(fitted):
    return np.mean(fitted.label_N == fitted.predicted_N)


def correct(fitted):
    """Right examples of each test item."""
    ends = np.cumsum(fitted.rows_I)
    right = fitted.label_N == fitted.predicted_N
    return np.array([right[end - rows : end].sum() for end, rows in zip(ends, fitted.rows_I, strict=True)])


def test_a_linear_probe_is_as_good_as_logistic_regression():
    x_NC, y_N = blobs()
    fitted = go(Given(x_NC, y_N), 4)
    train = np.arange(len(x_NC)) % 3 != 0
    scaler = StandardScaler().fit(x_NC[train])
    theirs = LogisticRegression(max_iter=1000).fit(scaler.transform(x_NC[train]), y_N[train])
    expected = theirs.score(scaler.transform(x_NC[~train]), y_N[~train])
    assert 0.7 < expected < 0.99
    assert accuracy(fitted) == pytest.approx(expected, abs=0.02)
    assert torch.allclose(fitted.tensors["mean"].double(), torch.from_numpy(scaler.mean_), rtol=1e-5)
    assert torch.allclose(fitted.tensors["deviation"].double(), torch.from_numpy(scaler.scale_), rtol=1e-5)
    assert fitted.majority == pytest.approx(np.mean(y_N[~train] == np.bincount(y_N[train]).argmax()))
    assert (fitted.train_items, len(fitted.items_I), fitted.train_rows, len(fitted.label_N)) == (
        600,
        300,
        600,
        300,
    )


def test_segments_of_any_size_are_counted_by_item():
    x_NC, y_N = blobs(901)
    fitted = go(Given(x_NC, y_N, 10), 4)
    assert len(fitted.items_I) == 31
    assert fitted.rows_I.tolist() == [10] * 30 + [1]
    assert fitted.row_N.tolist() == list(range(10)) * 30 + [0]
    assert fitted.label_N.tolist() == [label for item in range(0, 91, 3) for label in y_N[10 * item : 10 * item + 10]]
    assert ((fitted.probability_N > 0.25) & (fitted.probability_N <= 1)).all()  # of the likeliest of four
    assert accuracy(fitted) > 0.7


def test_right_answers_belong_to_their_item():
    x_NC, y_N = blobs(900)
    wrong = Given(x_NC, y_N, 10)
    wrong.y[3] = (wrong.y[3] + 1) % 4  # the second test item is labelled wrongly
    fitted, before = go(wrong, 4), go(Given(x_NC, y_N, 10), 4)
    assert correct(fitted)[1] < correct(before)[1] - 3
    assert np.delete(correct(fitted), 1).tolist() == np.delete(correct(before), 1).tolist()


def test_a_hidden_layer_solves_what_a_linear_probe_cannot():
    rng = np.random.default_rng(0)
    x_NC = rng.uniform(-1, 1, (900, 2))
    y_N = ((x_NC[:, 0] > 0) != (x_NC[:, 1] > 0)).astype(np.int64)
    features = Given(x_NC, y_N)
    assert accuracy(go(features, 2)) < 0.65
    hidden = go(features, 2, hidden=16, lr=2e-2)
    assert accuracy(hidden) > 0.95
    assert {"0.weight", "2.weight"} < hidden.tensors.keys()


def test_constant_channels_do_not_break_it():
    x_NC, y_N = blobs()
    x_NC = np.concatenate([x_NC, np.zeros((900, 1)), np.full((900, 1), 1e4)], 1)
    fitted = go(Given(x_NC, y_N), 4)
    assert accuracy(fitted) == pytest.approx(accuracy(go(Given(*blobs()), 4)), abs=0.02)
    assert fitted.tensors["deviation"][-2:].tolist() == [1.0, 1.0]
    assert all(torch.isfinite(t).all() for t in fitted.tensors.values())


def test_the_seed_decides_and_nothing_else():
    features = Given(*blobs(300), 10)
    first = go(features, 4, epochs=3).tensors
    torch.manual_seed(77)
    again, other = go(features, 4, epochs=3).tensors, go(features, 4, epochs=3, seed=1).tensors
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])


def test_the_callers_random_state_is_left_alone():
    before = torch.get_rng_state()
    go(Given(*blobs(60)), 4, epochs=1)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("batch_size", [1, 7, 32, 1000])
def test_batches_have_the_size_asked_for(batch_size):
    x_NC, y_N = blobs(100)
    features = Given(x_NC, y_N)
    batches = list(_batches(features, features.items, batch_size, torch.zeros(8), torch.ones(8), CPU))
    sizes = [len(y) for _, y, _ in batches]
    assert sizes == [min(batch_size, 100 - n) for n in range(0, 100, batch_size)]
    assert torch.equal(torch.cat([x for x, _, _ in batches]), torch.from_numpy(x_NC).float())


def test_nothing_to_train_or_test_on():
    features = Given(*blobs(30))
    nobody = np.empty(0, np.int64)
    fitted = go(features, 4, split=(features.items, nobody))
    assert (fitted.train_items, len(fitted.items_I), fitted.majority) == (30, 0, 0.0)
    assert go(features, 4, split=(nobody, features.items)).train_items == 0


def test_a_signal_stops_it():
    stop = Stop()
    stop.signal = 15
    with pytest.raises(Interrupted, match="SIGTERM: the stages are complete; this probe starts again"):
        go(Given(*blobs(60)), 4, stop=stop)


def test_progress_is_told():
    told = []
    go(Given(*blobs(60)), 4, epochs=3, report=lambda kind, **facts: told.append((kind, facts)))
    assert told == [("fit", {"epoch": n, "of": 3}) for n in (1, 2, 3)]
