"""The page of a report: names as it can show them, what it knows of a run, its parts and its pictures."""

from __future__ import annotations

import html
import io
import math
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stagewise import durable
from stagewise.runs.facts import run_facts
from stagewise.runs.folder import RunFolder
from stagewise.text import printable

# Names as a page can show them: whatever a file or folder may be called.


def escape(text: object) -> str:
    """Return text as a page must write it."""
    return html.escape(printable(text))


def short(text: str, length: int) -> str:
    """Return the start of a name that is longer than a drawing has room for."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


# What a report knows of one run: its facts, its data and its loss curves, read without torch.


@dataclass(frozen=True)
class View:
    """One run as a report shows it.

    Attributes:
        name: what the report calls it; no other run of the report is called so.
        folder: the run directory.
        facts: what `stagewise inspect --json` prints.
        data: the pipeline's data table.
        curves: one record per epoch, of every finished stage by name.
    """

    name: str
    folder: RunFolder
    facts: dict[str, Any]
    data: dict[str, Any]
    curves: dict[str, list[dict[str, Any]]]


def read_views(runs: Sequence[RunFolder]) -> list[View]:
    """Read runs; finished parts of unfinished ones, too.

    Raises:
        IntegrityError: a record is damaged.
    """
    last = [run.path.resolve().name for run in runs]
    names = [name if last.count(name) == 1 else str(run.path) for name, run in zip(last, runs, strict=True)]
    return [_view(name, run) for name, run in zip(names, runs, strict=True)]


def _view(name: str, run: RunFolder) -> View:
    locked, facts = run.locked, run_facts(run)
    assert locked is not None
    folder: Path = run.path / "stages"
    curves = {
        stage["name"]: durable.read_lines(folder / stage["folder"] / "metrics.jsonl")
        for stage in facts["stages"]
        if stage["state"] == "complete"
    }
    return View(name, run, facts, locked["pipeline"]["data"], curves)


# The parts of a page: tables, pictures, sections, and the document that needs nothing but itself.

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1b1f23; --line: #d5d9dd; --faint: #59626b }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171a; --ink: #e4e7ea; --line: #3a4047; --faint: #a2abb4 }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif;
  overflow-wrap: anywhere }
main { max-width: 78rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; border-top: 1px solid var(--line); padding-top: .8rem }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .4rem }
h4 { font-size: 1rem; margin: 1rem 0 .3rem }
.scroll { overflow-x: auto; max-width: 100%; margin: .8rem 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem }
caption { text-align: left; color: var(--faint); padding-bottom: .3rem }
caption span { position: sticky; left: 0; display: inline-block; max-width: calc(100vw - 2rem) }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  white-space: nowrap; overflow-wrap: normal }
th:first-child { padding-left: 0 }
thead th { white-space: normal; vertical-align: bottom }
.long { white-space: normal; overflow-wrap: anywhere; min-width: 10rem }
.number { text-align: right }
.matrix td { background: color-mix(in srgb, #2f7bd6 calc(var(--share) * 50%), transparent) }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1.2rem 2rem }
figure { margin: 0; max-width: 42rem }
figure, .whole { break-inside: avoid }
figure > svg { display: block; width: 100%; height: auto }
svg * { stroke-linejoin: round; stroke-linecap: butt }
figcaption, .note, .strip { color: var(--faint); font-size: .85rem }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .6rem; padding: 0;
  margin: .2rem 0 1rem; max-width: 48rem; list-style: none }
.strip li { line-height: 1.3 }
.strip img, .strip svg { display: block; width: 100%; height: 6rem; margin-bottom: .2rem }
.strip .patch { width: auto; max-width: 100%; image-rendering: pixelated; outline: 1px solid var(--line) }
@media print {
  :root { color-scheme: light; --paper: #ffffff; --ink: #000000; --line: #bbbbbb; --faint: #333333 }
  main { max-width: none; padding: 0 }
  .scroll { overflow: visible; break-inside: avoid }
  table { font-size: .62rem }
  th, td { white-space: normal; padding: .2rem }
  .long { min-width: 6rem }
  td.number { white-space: nowrap }
  tr { break-inside: avoid }
  h2, h3, h4 { break-after: avoid }
}
"""


def table(caption: str, words: Sequence[str], numbers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in a box of its own that scrolls.

    Args:
        caption: what it is about.
        words: headings of the first columns; the cells of the very first one head their rows.
        numbers: headings of the columns to the right of them.
        rows: of cells, one per heading.
    """
    kinds = [""] * len(words) + [' class="number"'] * len(numbers)
    head = "".join(f'<th scope="col"{k}>{escape(n)}</th>' for n, k in zip([*words, *numbers], kinds, strict=True))
    body = "\n".join(f"<tr>{_row(row, kinds)}</tr>" for row in rows)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table>'
        f"<caption><span>{escape(caption)}</span></caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _row(row: Sequence[str], kinds: Sequence[str]) -> str:
    first, *rest = row
    cells = (f"<td{kind or _long(cell)}>{escape(cell)}</td>" for cell, kind in zip(rest, kinds[1:], strict=True))
    return f'<th scope="row"{_long(first)}>{escape(first)}</th>' + "".join(cells)


def _long(cell: str) -> str:
    """Let a sentence or a long name take several lines."""
    return ' class="long"' if len(cell) > 24 else ""


def matrix(caption: str, names: Sequence[str], counts: Mapping[tuple[int, int], int]) -> str:
    """Return how often each class (lines) is taken for each (columns), darker the larger its share of a line.

    Args:
        caption: what it is about.
        names: of the classes.
        counts: by line and column, where there are any.
    """
    head = "".join(f'<th scope="col" class="number">{escape(name)}</th>' for name in ("", *names))
    lines = []
    for line, name in enumerate(names):
        total = sum(counts.get((line, column), 0) for column in range(len(names)))
        cells = (counts.get((line, column), 0) for column in range(len(names)))
        body = "".join(f'<td class="number" style="--share: {n / max(1, total):.3f}">{n:,}</td>' for n in cells)
        lines.append(f'<tr><th scope="row"{_long(name)}>{escape(name)}</th>{body}</tr>')
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table class="matrix">'
        f"<caption><span>{escape(caption)}</span></caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(lines)
        + "\n</tbody></table></div>"
    )


def picture(svg: str, caption: str) -> str:
    """Return a drawing with its caption."""
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def pictures(figures: Sequence[str]) -> str:
    """Return pictures side by side, or one below the other where there is no room; nothing if there are none."""
    return '<div class="pictures">' + "\n".join(figures) + "</div>" if figures else ""


def heading(level: int, text: str) -> str:
    """Return a heading."""
    return f"<h{level}>{escape(text)}</h{level}>"


def note(text: str) -> str:
    """Return a paragraph in small print."""
    return f'<p class="note">{escape(text)}</p>'


def listed(lines: Sequence[str]) -> str:
    """Return lines as a list."""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def strip(name: str, cells: Sequence[tuple[str, str]]) -> str:
    """Return small pictures with their captions in a row."""
    items = "".join(f"<li>{small}{escape(caption)}</li>" for small, caption in cells)
    return f'<div class="whole">{note(name)}<ul class="strip">{items}</ul></div>'


def document(title: str, parts: Iterable[str]) -> str:
    """Return a whole page; it loads nothing, and a browser is told to load nothing."""
    body = "\n".join(parts)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{body}
</main>
</body>
</html>
"""


# A matplotlib drawing as SVG inside a page: any width, light or dark, and the same bytes every time.

INK = "#0a0b0c"  # stands for the page's text colour, which changes with the page
# Each has a contrast of 3 or more against the white and against the dark page.
COLOURS = ("#2f7bd6", "#d06a12", "#2b965a", "#bf4a9a", "#1d92a3", "#d4483e", "#8a861c", "#8064d4")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")  # for those who do not see the colours apart
WIDTH = 5.0  # inches of 72 units: a phone shows text of size 10 at about 10 pixels
LEGEND_COLUMNS, LEGEND_ROW, LEGEND_LETTERS = 2, 0.19, 30  # the height of a row in inches
PICTURE_STYLE: Any = {  # what its keys are differs between versions of matplotlib
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
    with matplotlib.rc_context(PICTURE_STYLE), warnings.catch_warnings():
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
