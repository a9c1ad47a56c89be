"""All stages in one step: against one stage after another on detached rows, and windows that nothing has spoilt."""

import copy
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_stacks import stacks, stage, whole
from torch import nn

from stagewise.modules import GRU, Conv1d, Geometry, ResNet
from stagewise.modules.patches import PatchStage
from stagewise.modules.stage_module import StageModule, represent
from stagewise.objectives import GridInfoNCE, InfoNCE
from stagewise.training.checkpoint import read_tensors, restore, state_of, write_tensors
from stagewise.training.step import Member, Trainee, intact_rows, place_windows, train_step, train_together
from stagewise.training.windows import Crops, Windows

ROWS = 8
ALL = 1000  # more rows than there are: a window is all that no cut has spoilt
SAMPLES = torch.randn(4, 1, 700, generator=torch.Generator().manual_seed(3))


def trainees(modules, objective, pieces=1):
    made = []
    for module in modules:
        trainee = Trainee(module, objective(module.z_channels, module.c_channels), None, pieces)
        trainee.optimizer = torch.optim.Adam(trainee.parameters(), lr=1e-2)  # large: rows after a step are others
        made.append(trainee)
    return made


def images(pieces=1):
    torch.manual_seed(0)
    modules = [
        PatchStage(ResNet(1, 2, 1, stem=3), None, (1, 6, 6)),
        PatchStage(ResNet(8, 2, 1, 2), nn.Conv2d(8, 5, 1), (8, 6, 6)),
        PatchStage(ResNet(8, 3, 1), None, (8, 3, 3)),
    ]
    return trainees(modules, lambda z, c: GridInfoNCE(z, c, 2, 1, 3), pieces)


def audio(pieces=1):
    torch.manual_seed(0)
    modules = [
        StageModule(Conv1d(1, 6, 6, 3, 2), None, 1),
        StageModule(Conv1d(6, [6, 6], 4, [2, 1], 1), None, 6),
        StageModule(Conv1d(6, 5, 3, 1, 1), GRU(5, 4), 6),
    ]
    return trainees(modules, lambda z, c: InfoNCE(z, c, steps=2, negatives=3), pieces)


def members(some, rows=ROWS):
    found, geometry = [], Geometry()
    for number, trainee in enumerate(some):
        geometry += trainee.stage.geometry
        found.append(Member(f"stage-{number}", Path(), trainee, geometry, rows))
    return found


def crops():
    return next(Crops(np.arange(4), np.full((4, 2), 4), (4, 4), 1, True).batches(4, 0))


def windows(some, items=4):
    geometry = sum((trainee.stage.geometry for trainee in some), Geometry())
    return next(Windows(np.arange(items), np.full(items, 700), geometry, ROWS, 1).batches(items, 0))


def cut(batch):
    """What a source would read of the samples."""
    spans = zip(batch.items.tolist(), batch.begins.tolist(), strict=True)
    return torch.stack([SAMPLES[item, :, begin : begin + batch.span] for item, begin in spans])


def generators(some):
    return [torch.Generator().manual_seed(number) for number in range(len(some))]


def parameters(some):
    return [p.detach().clone() for trainee in some for p in trainee.parameters()]


@pytest.mark.parametrize("pieces", [1, 3])
def test_images_train_as_if_one_stage_came_after_the_other(pieces):
    some, batch = images(pieces), crops()
    naive = copy.deepcopy(some)
    where = place_windows(members(some), batch, 0)
    for step in range(3):
        x = torch.randn(4, 1, 16, 6, 6, generator=torch.Generator().manual_seed(step))
        scores = train_together(some, x, where, generators(some), [None] * 3, [True] * 3)
        for trainee, score, generator in zip(naive, scores, generators(some), strict=True):
            rows = trainee.stage(x)[1].detach()  # before the update
            assert torch.equal(train_step(trainee, x, batch.window, generator).loss, score.loss)
            x = rows
        for ours, theirs in zip(parameters(some), parameters(naive), strict=True):
            assert torch.equal(ours, theirs)
        assert all(trainee.rows is None for trainee in some)


@pytest.mark.parametrize("rows", [ROWS, ALL])
@pytest.mark.parametrize("pieces", [1, 3])
def test_audio_trains_as_if_one_stage_came_after_the_other(rows, pieces):
    some = audio(pieces)
    naive, batch = copy.deepcopy(some), windows(some)
    for step in range(3):
        where, x = place_windows(members(some, rows), batch, step), cut(batch)
        assert [place.whole for place in where] == [rows == ALL, rows == ALL, True]
        scores = train_together(some, x, where, generators(some), [None] * 3, [True] * 3)
        for trainee, place, score, generator in zip(naive, where, scores, generators(some), strict=True):
            handed_on = trainee.stage(x)[1].detach()
            theirs = train_step(trainee, x[:, :, place.begin : place.end], place.window, generator)
            assert torch.equal(theirs.loss, score.loss)
            x = handed_on
        for ours, theirs in zip(parameters(some), parameters(naive), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("rows", [ROWS, ALL])
def test_every_window_holds_the_rows_of_whole_items_as_they_were_before_the_step(rows):
    """Found again in whole items, by stages that were copied before the step."""
    some = audio()
    before, batch = copy.deepcopy(some), windows(some)
    where, seen = place_windows(members(some, rows), batch, 7), []

    def step(trainee, x_BCT, window, generator, y):
        # What its objective is given, before it is updated.
        with torch.no_grad():
            seen.append(trainee.stage.window(x_BCT, window)[0])
        return train_step(trainee, x_BCT, window, generator, y)

    train_together(some, cut(batch), where, generators(some), [None] * 3, [True] * 3, step)
    for depth, (place, z_BCT) in enumerate(zip(where, seen, strict=True), 1):
        below = represent([trainee.stage for trainee in before[: depth - 1]], SAMPLES)
        whole_BCT = before[depth - 1].stage(below)[0]  # z: a context's state depends on where a window begins
        count = z_BCT.shape[2]
        assert count == ROWS or (rows == ALL and depth < 3 and count > ROWS)
        for z_CT, item, first in zip(z_BCT, batch.items.tolist(), place.first_B.tolist(), strict=True):
            torch.testing.assert_close(z_CT, whole_BCT[item, :, first : first + count], rtol=1e-5, atol=1e-6)
    for old, new in zip(parameters(before), parameters(some), strict=True):
        assert not torch.equal(old, new)


@given(
    st.lists(stacks, min_size=2, max_size=3),
    st.integers(1, 12),
    st.integers(1, 30),
    st.integers(0, 40),
    st.integers(0),
    st.sampled_from([5, ALL]),
)
@settings(deadline=None, max_examples=40)
def test_windows_of_any_stages_lie_in_rows_that_no_cut_has_spoilt(found, rows, more, seed, place, most):
    modules, geometry = [], Geometry()
    for number, stack in enumerate(found):
        modules.append(stage(stack, modules[-1].out_channels if modules else 1, seed=number))
        geometry += modules[-1].geometry
    length = geometry.window_span(rows) + more * 3
    starts = geometry.window_starts(length, rows)
    if length > 6000 or not starts:
        return
    x = torch.randn(1, 1, length, dtype=torch.float64, generator=torch.Generator().manual_seed(length))
    begin = max(0, place % starts + geometry.first // geometry.hop)
    (batch,) = AtRow(np.array([0]), np.array([length]), geometry, rows, place % starts).batches(1)
    assert int(batch.begins[0]) == begin * geometry.hop
    some, under = [], Geometry()
    for number, module in enumerate(modules):
        under += module.geometry
        some.append(Member(f"stage-{number}", Path(), Trainee(module, nn.Module(), None), under, most))
    piece = x[:, :, batch.begins[0] : batch.begins[0] + batch.span]
    for depth, (member, found_place) in enumerate(zip(some, place_windows(some, batch, seed), strict=True), 1):
        below = represent(modules[: depth - 1], piece)
        with torch.no_grad():
            z, _ = member.trainee.stage.window(below[:, :, found_place.begin : found_place.end], found_place.window)
        expected = whole(modules[:depth], x)
        first, count = int(found_place.first_B[0]), found_place.window.rows
        low, high = intact_rows(member.geometry, batch.span)
        assert count == (rows if depth == len(modules) else min(most, high - low))
        torch.testing.assert_close(z, expected[:, :, first : first + count], rtol=0, atol=1e-11)


class AtRow(Windows):
    """The window that begins at row `per_item`."""

    def epoch(self, *seed):
        return self.items, np.array([self.per_item])


@given(stacks, st.integers(1, 300))
@settings(deadline=None, max_examples=60)
def test_rows_are_intact_if_and_only_if_they_see_nothing_but_the_piece(stack, span):
    geometry = stage(stack).geometry
    seen = [(i * geometry.hop + geometry.first, i * geometry.hop + geometry.first + geometry.receptive_field)
            for i in range(geometry.rows(span))]  # fmt: skip
    inside = [row for row, (begin, end) in enumerate(seen) if begin >= 0 and end <= span]
    low, high = intact_rows(geometry, span)
    assert inside == list(range(low, high))


def test_places_are_a_pure_function_of_the_seed_and_reach_everywhere():
    some = members(audio())
    batch = windows([member.trainee for member in some])

    def firsts(*seed):
        return [place.first_B.tolist() for place in place_windows(some, batch, *seed)]

    assert firsts(0, "step", 1, 5) == firsts(0, "step", 1, 5)
    drawn = [firsts(0, "step", 1, step) for step in range(1000)]
    ranges = [intact_rows(member.geometry, batch.span) for member in some[:2]]
    begins = [int(batch.begins[0]) // member.geometry.hop for member in some[:2]]
    possible = [range(begin + low, begin + high - ROWS + 1) for begin, (low, high) in zip(begins, ranges, strict=True)]
    pairs = {(lowest[0], middle[0]) for lowest, middle, _ in drawn}
    assert pairs == set(product(*possible))  # each stage's window moves on its own
    assert len(possible[0]) > len(possible[1]) > 2
    assert len({tuple(top) for *_, top in drawn}) == 1  # that of the topmost is what was drawn


@pytest.mark.parametrize("make", [images, audio])
def test_a_stage_that_is_not_due_stays_as_it_is_and_hands_on_all_the_same(make):
    some = make()
    batch = crops() if make is images else windows(some)
    x = torch.randn(4, 1, 16, 6, 6) if make is images else cut(batch)
    where = place_windows(members(some), batch, 0)
    naive = copy.deepcopy(some)
    before = parameters(some[:1]), parameters(some[1:2]), parameters(some[2:])
    scores = train_together(some, x, where, generators(some), [None] * 3, [False, True, False])
    assert [score is None for score in scores] == [True, False, True]
    assert all(torch.equal(a, b) for a, b in zip(parameters(some[:1]), before[0], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(parameters(some[2:]), before[2], strict=True))
    assert all(not torch.equal(a, b) for a, b in zip(parameters(some[1:2]), before[1], strict=True))
    handed_on = represent([naive[0].stage], x)
    window = handed_on[:, :, where[1].begin : where[1].end]
    alone = train_step(naive[1], window, where[1].window, generators(some)[1])
    assert torch.equal(alone.loss, scores[1].loss)


@pytest.mark.parametrize("make", [images, audio])
def test_training_goes_on_from_what_a_checkpoint_holds_with_the_same_bits(make, tmp_path):
    """An optimizer that works on memory as it lies (fused) must find it as it lay."""
    some = make()
    batch = crops() if make is images else windows(some)
    where, x = place_windows(members(some), batch, 0), torch.randn(4, 1, 16, 6, 6) if make is images else cut(batch)

    def step(them):
        train_together(them, x, where, generators(them), [None] * 3, [True] * 3)

    for trainee in some:
        trainee.optimizer = torch.optim.Adam(trainee.parameters(), lr=1e-2, fused=True)
    step(some)
    others = make()
    for number, (trainee, other) in enumerate(zip(some, others, strict=True)):
        other.optimizer = torch.optim.Adam(other.parameters(), lr=1e-2, fused=True)
        file = tmp_path / f"{number}.safetensors"
        write_tensors(file, state_of({"s": trainee.stage, "o": trainee.objective}, trainee.optimizer))
        restore(read_tensors(file), {"s": other.stage, "o": other.objective}, other.optimizer)
    step(some)
    step(others)
    for ours, theirs in zip(parameters(some), parameters(others), strict=True):
        assert torch.equal(ours, theirs)


def test_one_stage_alone_is_a_plain_step():
    some = audio()[:1]
    naive, batch = copy.deepcopy(some), windows(some)
    train_together(some, cut(batch), place_windows(members(some), batch, 0), generators(some), [None], [True])
    train_step(naive[0], cut(batch), batch.window, generators(some)[0])
    assert all(torch.equal(a, b) for a, b in zip(parameters(some), parameters(naive), strict=True))
