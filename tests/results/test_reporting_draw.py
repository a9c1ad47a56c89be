"""Drawings that go into a page: legible on both of its colours, the same bytes every time, nothing that clashes."""

import re

import pytest
from report_examples import Page

from stagewise.results.page import COLOURS, INK, MARKERS, STYLE, draw, label


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def schemes():
    return [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in STYLE.split("@media")[:2]]


@pytest.mark.parametrize("scheme", schemes(), ids=["light", "dark"])
def test_lines_and_words_can_be_seen_on_light_and_dark_paper(scheme):
    for colour in COLOURS:
        assert contrast(colour, scheme["paper"]) >= 3, colour  # WCAG 2, graphics
    assert contrast(scheme["ink"], scheme["paper"]) >= 7
    assert contrast(scheme["faint"], scheme["paper"]) >= 4.5


def test_every_colour_has_a_marker_of_its_own():
    assert len(set(MARKERS)) == len(MARKERS) == len(set(COLOURS)) == len(COLOURS)


def paint(axes):
    axes.plot([0, 1], [0, 1], "o-", label=label("up"))
    axes.set(title="a title", xlabel="x")


def test_the_same_drawing_has_the_same_bytes():
    assert draw("a", "alt", 3, paint) == draw("a", "alt", 3, paint)


def test_a_drawing_takes_its_size_and_ink_from_the_page():
    svg = draw("a", "a line that rises", 3, paint)
    (root, *_) = Page(svg).tags
    assert root[0] == "svg"
    assert root[1]["viewbox"].startswith("0 0 360 ")
    assert not {"width", "height"} & set(root[1])
    assert "currentColor" in svg
    assert INK not in svg
    assert "<style" not in svg  # it would hold for the whole page
    assert "metadata" not in svg
    assert "a title" in Page(svg).text  # words, not outlines


def test_a_drawing_has_words_for_those_who_do_not_see_it():
    svg = draw("a", 'rises from <0> to "1"', 3, paint)
    page = Page(svg)
    assert page.tags[0][1]["role"] == "img"
    assert page.tags[0][1]["aria-label"] == 'rises from <0> to "1"'
    assert page.tags[1][0] == "title"


def test_ids_of_two_drawings_do_not_meet_and_every_reference_leads_somewhere():
    text = draw("a", "", 3, paint) + draw("b", "", 3, paint)
    ids = re.findall(r' id="([^"]+)"', text)
    references = re.findall(r'(?:href="|url\()#([^")]+)', text)
    assert len(ids) == len(set(ids))
    assert references
    assert set(references) == set(ids)


@pytest.mark.parametrize("name", ["_hidden", "a $b$ & <c>", "$\\frac{", "bell\x07", "日本語", "cut\udce9", "#0a0b0c"])
def test_any_name_can_stand_in_a_drawing(name):
    svg = draw("a", name, 3, lambda axes: axes.plot([0, 1], [0, 1], label=label(name)))
    shown = name.replace("\x07", "�").replace("\udce9", "�")
    assert shown in Page(svg).text
    svg.encode()


def test_a_long_legend_makes_the_drawing_higher_not_the_plot_smaller():
    def many(count):
        return draw("a", "", 3, lambda axes: [axes.plot([0, 1], [0, n], label=f"line {n}") for n in range(count)])

    heights = [float(re.search(r'viewBox="0 0 360 ([\d.]+)"', many(count))[1]) for count in (0, 2, 8)]
    assert heights[0] == pytest.approx(3 * 72)
    assert heights[0] < heights[1] < heights[2]
