"""The parts of a page: tables, pictures, sections, and the document that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from stagewise.reporting.words import escape

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
