"""What the three figures show, read from their numbers and their words."""

import re

import pytest
from report_examples import Page, curve, probe, view

from stagewise.results.figures import PUBLISHED, error_per_depth, loss_curves, memory_bars, points
from stagewise.text import bytes_text


def loss_ticks(svg):
    """Where the numbers along the upright axis stand, and what they are."""
    return re.findall(r'text-anchor: end[^>]* y="([\d.]+)"[^>]*>([\d.]+)<', svg)


def test_errors_are_in_percent_with_their_interval_the_right_way_round():
    run = view(probes=[probe("two", 0.9, interval=(0.8, 0.95)), probe("one", 0.4, interval=(0.3, 0.5))])
    assert [depth for depth, *_ in points(run, "speaker")] == [1, 2]
    assert points(run, "speaker")[0][1:] == pytest.approx((60, 50, 70))
    assert points(run, "speaker")[1][1:] == pytest.approx((10, 5, 20))


def test_an_error_of_zero_lies_at_half_a_test_example():
    run = view(probes=[probe("one", 1.0, interval=(0.98, 1.0), test_items=200)])
    assert points(run, "speaker") == [(1, pytest.approx(0.25), pytest.approx(0.25), pytest.approx(2))]


@pytest.mark.parametrize(("values", "said"), [((1.0, 0.3), True), ((0.9, 1.0), True), ((0.9, 0.3), False)])
def test_where_an_error_of_zero_lies_is_said(values, said):
    (figure,) = error_per_depth([view(probes=[probe("one", 0.5), probe("two", values[0], random=values[1])])])
    assert ("is drawn as half of one test item" in figure) == said


def test_a_probe_on_one_stage_alone_has_no_curve():
    assert error_per_depth([view(probes=[probe("one", 0.5)])]) == []
    assert error_per_depth([view()]) == []
    both = [probe("one", 0.5), probe("two", 0.6), probe("two", 0.4, name="phones", labels="phones")]
    (figure,) = error_per_depth([view(probes=both)])
    assert "50 at stage 1, 40 at stage 2" in figure


def test_random_weights_are_a_line_beside():
    both = [probe("one", 0.5, random=0.3), probe("two", 0.6), probe("two", 0.4, name="phones")]
    (figure,) = error_per_depth([view(probes=both)])
    assert "50 at stage 1, 40 at stage 2, before training: 70 at stage 1" in figure
    assert "run, before training" in Page(figure).text
    assert "Dotted: the same stages before training." in figure


@pytest.mark.parametrize(
    ("target", "labels", "wanted"),
    [("librispeech", "speaker", True), ("librispeech", "phones", False), ("audio-folder", "speaker", False)],
)
def test_published_curves_stand_only_beside_what_they_can_be_compared_with(target, labels, wanted):
    run = view(target=target, probes=[probe("one", 0.5, labels=labels), probe("two", 0.6, labels=labels)])
    (figure,) = error_per_depth([run])
    for system in PUBLISHED:
        assert (f"{system}, published" in Page(figure).text) == wanted
    assert ("measured by its authors" in figure) == wanted


def test_runs_are_lines_of_one_picture():
    probes = [probe("one", 0.5), probe("two", 0.6)]
    (figure,) = error_per_depth([view("first", probes=probes), view("second", probes=probes), view("bare")])
    words = Page(figure).text
    assert "first" in words
    assert "second" in words
    assert "bare" not in words


def test_every_stage_has_a_loss_axis_of_its_own_which_runs_share():
    one = view("a", curves={"one": curve(2.4, 1.9), "two": curve(0.9, 0.8)})
    other = view("b", curves={"one": curve(2.4, 0.3)}, schedule="simultaneous")
    figures = loss_curves([one, other])
    assert len(figures) == 3
    assert [("iterative" in Page(figure).text, "simultaneous" in Page(figure).text) for figure in figures] == [
        (True, False), (True, False), (False, True),
    ]  # fmt: skip
    assert "2.400 to 0.300" in figures[2]
    assert len(loss_ticks(figures[0])) > 1
    assert loss_ticks(figures[0]) == loss_ticks(figures[2])
    assert loss_ticks(figures[0]) != loss_ticks(figures[1])


def test_loss_curves_of_random_weights_and_of_nothing():
    (figure,) = loss_curves([view(curves={"one": curve(2.4)}), view(curves={})])
    assert "2.400." in figure
    assert "<use" in figure  # a dot: a line of one point could not be seen
    assert loss_curves([view(curves={})]) == []


def test_memory_says_every_number_and_a_limit_where_it_can_be_shown():
    (figure,) = memory_bars([view(limit=7_000_000)])
    for count in (2_500_000, 2_000_000, 6_000_000):
        assert bytes_text(count) in Page(figure).text
    assert f"limit, {bytes_text(7_000_000)}" in Page(figure).text
    (figure,) = memory_bars([view(limit=7_000_000_000)])
    assert "limit, " not in figure
    assert f"limit of {bytes_text(7_000_000_000)} lies far" in figure


def test_memory_of_a_run_that_has_only_been_planned():
    run = view()
    for stage in run.facts["stages"]:
        stage["memory"]["measured_peak_bytes"] = None
    (figure,) = memory_bars([run])
    assert "measured" not in figure
