"""HTML for reports: one self-contained page without scripts or network requests.

Every text passes through `escape`. Pictures are embedded as base64 PNG; a content security policy forbids everything
else. The page follows the reader's light or dark mode, and a table becomes a list of cards on a phone.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1e21; --soft: #5c636b; --line: #dfe2e6; --tint: #f5f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15171a; --ink: #e7e9ec; --soft: #9aa2ab; --line: #2f343a; --tint: #1d2024; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.9rem; line-height: 1.2; letter-spacing: -0.01em; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.75rem 0 .75rem; }
p { margin: .5rem 0; max-width: 44rem; }
.soft, figcaption, .source { color: var(--soft); font-size: .875rem; }
table { width: 100%; border-collapse: collapse; font-size: .9375rem; font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .75rem .5rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
tbody th { min-width: 6.5rem; }
thead th { font-size: .8125rem; color: var(--soft); border-bottom-width: 2px; }
tr.group th { padding-top: 1.25rem; color: var(--soft); }
thead th, td[data-label="Better"] { overflow-wrap: normal; }
td.number { white-space: nowrap; }
code { font: .85em ui-monospace, "SF Mono", Menlo, Consolas, monospace; background: var(--tint); padding: .1em .35em;
  border-radius: .25em; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); gap: 1.5rem; }
figure { margin: 0; }
blockquote { margin: 1rem 0; padding: .6rem .9rem; background: var(--tint); border-radius: .25rem; white-space: pre-wrap; }
img { display: block; max-width: 100%; height: auto; border-radius: .25rem; }
img.small { image-rendering: pixelated; width: 100%; }
figcaption { margin-top: .5rem; }
@media (max-width: 40rem) {
  body { padding: 1.5rem 1rem 3rem; }
  table, tbody, tr, th, td { display: block; }
  thead { position: absolute; left: -9999px; }
  tr { padding: .75rem 0; border-bottom: 1px solid var(--line); }
  th, td { border: 0; padding: .1rem 0; }
  td::before { content: attr(data-label) ": "; color: var(--soft); font-size: .8125rem; }
}
@media print { body { max-width: none; padding: 0; } figure, tr { break-inside: avoid; } }
""".strip()

POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


def page(title: str, summary: str, body: str) -> str:
    """A complete HTML document; `title` and `summary` are plain text, `body` is HTML."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">
<title>{escape(title)}</title>
<style>
{STYLE}
</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{paragraph(summary)}
{body}
</main>
</body>
</html>
"""


def section(heading: str, body: str) -> str:
    """A section under a heading of plain text."""
    return f"<section>\n<h2>{escape(heading)}</h2>\n{body}\n</section>"


def paragraph(text: str, *, kind: str = "soft") -> str:
    """A paragraph of plain text; "" for an empty text."""
    return f'<p class="{kind}">{escape(text)}</p>' if text else ""


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()) -> str:
    """A table of plain texts; the first cell of each row is its heading, columns in `numbers` do not wrap."""
    return grouped_table(columns, {"": rows}, numbers=numbers)


def grouped_table(
    columns: Sequence[str], groups: Mapping[str, Sequence[Sequence[str]]], *, numbers: Sequence[int] = ()
) -> str:
    """A table with its rows in groups, each under a line with its name; the group "" has no such line."""
    head = "".join(f'<th scope="col" role="columnheader">{escape(column)}</th>' for column in columns)
    bodies = []
    for group, rows in groups.items():
        spans = f'<th scope="rowgroup" role="rowheader" colspan="{len(columns)}">{escape(group)}</th>'
        lines = [f'<tr role="row" class="group">{spans}</tr>'] if group else []
        lines += [_row(columns, row, numbers) for row in rows]
        bodies.append("<tbody>\n" + "\n".join(lines) + "\n</tbody>")
    return f'<table role="table">\n<thead><tr role="row">{head}</tr></thead>\n' + "\n".join(bodies) + "\n</table>"


def _row(columns: Sequence[str], row: Sequence[str], numbers: Sequence[int]) -> str:
    first, *rest = row
    cells = (
        f'<td role="cell" class="{"number" if i in numbers else "words"}" data-label="{escape(columns[i])}">'
        f"{escape(text)}</td>"
        for i, text in enumerate(rest, 1)
    )
    return f'<tr role="row"><th scope="row" role="rowheader">{escape(first)}</th>{"".join(cells)}</tr>'


def source(samples: str, seeds: str, command: str) -> str:
    """The line under a table that states the source of its figures."""
    return (
        f'<p class="source">Samples: {escape(samples)}. Seeds: {escape(seeds)}. '
        f"Command: <code>{escape(command)}</code></p>"
    )


def figure(png: bytes, caption: str, *, dark: bytes | None = None, small: bool = False) -> str:
    """A picture with its caption; `dark` replaces it in dark mode, `small` pictures are enlarged without blur."""
    image = f'<img src="{_embedded(png)}" alt="{escape(caption)}"{" class=small" if small else ""}>'
    if dark is not None:
        image = f'<picture><source media="(prefers-color-scheme: dark)" srcset="{_embedded(dark)}">{image}</picture>'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def audio(wav: bytes, caption: str) -> str:
    """A sound to play, with its caption."""
    source = "data:audio/wav;base64," + base64.b64encode(wav).decode()
    player = f'<audio controls preload="metadata" src="{source}"></audio>'
    return f"<figure>{player}<figcaption>{escape(caption)}</figcaption></figure>"


def figures(parts: Sequence[str]) -> str:
    """Figures in a grid that adapts to the width of the screen."""
    return '<div class="pictures">\n' + "\n".join(parts) + "\n</div>"


def _embedded(content: bytes) -> str:
    kind = "webp" if content[8:12] == b"WEBP" else "png"
    return f"data:image/{kind};base64," + base64.b64encode(content).decode()


def quote(given: str, written: str) -> str:
    """A generated text, with line breaks kept, after the text it was conditioned on."""
    before = f'<p class="soft">{escape(given)}</p>' if given else ""
    return f"<blockquote>{before}{escape(written)}</blockquote>"
