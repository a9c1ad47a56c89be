"""A matplotlib drawing as SVG inside a page: any width, light or dark, and the same bytes every time."""

from __future__ import annotations

import io
import math
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stagewise.reporting.words import short
from stagewise.show import printable

INK = "#0a0b0c"  # stands for the page's text colour, which changes with the page
# Each has a contrast of 3 or more against the white and against the dark page.
COLOURS = ("#2f7bd6", "#d06a12", "#2b965a", "#bf4a9a", "#1d92a3", "#d4483e", "#8a861c", "#8064d4")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")  # for those who do not see the colours apart
WIDTH = 5.0  # inches of 72 units: a phone shows text of size 10 at about 10 pixels
LEGEND_COLUMNS, LEGEND_ROW, LEGEND_LETTERS = 2, 0.19, 30  # the height of a row in inches
STYLE: Any = {  # what its keys are differs between versions of matplotlib
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "stagewise",
    "text.parse_math": False,  # names of runs may have dollars
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.0,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
}
SVG, LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


def draw(key: str, alt: str, height: float, paint: Callable[[Axes], None]) -> str:
    """Return a drawing as an SVG element for a page, with a legend of what has a label below it.

    Args:
        key: unlike that of any other drawing of the page.
        alt: what the drawing shows, in words.
        height: in inches, for 5 inches of width, without the legend.
        paint: draws on the axes.
    """
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's fonts may have it
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        paint(axes)
        handles, labels = axes.get_legend_handles_labels()
        figure.set_size_inches(WIDTH, height + LEGEND_ROW * math.ceil(len(labels) / LEGEND_COLUMNS))
        figure.legend(
            handles, [short(label, LEGEND_LETTERS) for label in labels],
            loc="outside lower left", ncols=LEGEND_COLUMNS, frameon=False, fontsize=9, labelspacing=0.2,
        )  # fmt: skip
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return _inline(text.getvalue(), key, alt)


def colour(number: int) -> str:
    """Return the colour of a stage or run; they come round again."""
    return COLOURS[number % len(COLOURS)]


def marker(number: int) -> str:
    """Return the marker of a stage or run."""
    return MARKERS[number % len(MARKERS)]


def label(name: str) -> str:
    """Return a name as a legend takes it: matplotlib would leave out one that begins with an underscore."""
    return f" {printable(name)}"


def _inline(text: str, key: str, alt: str) -> str:
    """Take out of an SVG file what a page must not have: fixed size, fixed ink, ids that come twice."""
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", LINK)
    root = ET.fromstring(text)  # noqa: S314 (matplotlib has just written it)
    for parent in list(root.iter()):
        for child in [c for c in parent if c.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style")]:
            parent.remove(child)
    used = {name for element in root.iter() for value in element.attrib.values() for name in _references(value)}
    for element in root.iter():
        for attribute, value in list(element.attrib.items()):
            if attribute == "id" and value not in used:
                del element.attrib[attribute]
            elif attribute == "id":
                element.set(attribute, f"{key}-{value}")
            else:
                value = re.sub(r"(^|url\()#(?=[\w-]+\)?)", rf"\g<1>#{key}-", value) if _references(value) else value
                element.set(attribute, value.replace(INK, "currentColor"))
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-label", printable(alt))
    title = ET.Element(f"{{{SVG}}}title")
    title.text = printable(alt)
    root.insert(0, title)
    return ET.tostring(root, encoding="unicode")


def _references(value: str) -> list[str]:
    return re.findall(r"^#([\w-]+)$", value) + re.findall(r"url\(#([\w-]+)\)", value)
