"""Reports as one self-contained HTML file, and the same in Markdown."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from steer.evaluate import tables as as_tables
from steer.evaluate.tables import Table
from steer.models.media.image import image_bytes, shrunk
from steer.results.grid import MARKS, Shown
from steer.results.sheets import WIDE

THUMBNAIL, STRIP = 192, 576
"""Pixels of the longer side of a picture, and of a filmstrip."""
STATES = {True: "passed", False: "failed", None: "open"}
CSS = """
:root{color-scheme:light dark;--ink:#1a1a1a;--faint:#5f5f5f;--line:#ddd;--passed:#1a7f37;--failed:#c62828}
@media(prefers-color-scheme:dark){
:root{--ink:#e6e6e6;--faint:#a3a3a3;--line:#444;--passed:#4ac26b;--failed:#ff7b72}body{background:#16181c}
}
body{font:15px/1.5 system-ui,sans-serif;max-width:1200px;margin:2em auto;padding:0 1em;color:var(--ink)}
table{border-collapse:collapse;font-size:13px;margin:.5em 0}
th,td{padding:.25em .7em;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child,th:nth-child(2),td:nth-child(2){text-align:left}
.scroll{overflow-x:auto}
.note{color:var(--faint);font-size:13px}
img{max-width:100%}
.examples th,.examples td{text-align:center;white-space:normal;max-width:200px}
.examples td{font-size:12px;vertical-align:top}
.examples td:first-child{text-align:left;font-size:14px;vertical-align:middle}
.examples .passed{color:var(--passed)}.examples .failed{color:var(--failed)}
.examples .passed img{outline:3px solid var(--passed)}.examples .failed img{outline:3px solid var(--failed)}
.examples img{width:128px;image-rendering:auto}
.examples .strip{width:384px;max-width:none}
"""


@dataclass(frozen=True)
class Example:
    """One prompt with each cell's image and score.

    Attributes:
        prompt: its text.
        images: of each cell, in the cells' order.
    """

    prompt: str
    images: Sequence[Shown]


def html(
    title: str,
    facts: Sequence[str],
    tables: Sequence[Table],
    pictures: Mapping[str, bytes],
    examples: Sequence[Example],
) -> str:
    """Return a page; pictures are PNG files by title."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        # no prompt can make a browser run or fetch anything
        "<meta http-equiv=Content-Security-Policy "
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
        f"<meta name=viewport content='width=device-width'><title>{escape(title)}</title><style>{CSS}</style>",
        f"<h1>{escape(title)}</h1>",
        *[f"<p>{escape(fact)}</p>" for fact in facts],
    ]
    shown = [_table(table) for table in tables]
    shown.insert(1, _examples(examples))  # whoever opens the page looks at these first
    for name, data in pictures.items():
        shown.append(f"<h2>{escape(name)}</h2><img alt='{escape(name)}' src='{_data_url(data)}'>")
    return "".join([*parts, *shown]) + "</html>\n"


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.head)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return (
        f"<h2>{escape(table.title)}</h2><div class=scroll><table><tr>{head}</tr>{rows}</table></div>"
        f"<p class=note>{escape(table.note)}</p>"
    )


def _examples(examples: Sequence[Example]) -> str:
    if not examples:
        return ""
    parts = ["<h2>Examples</h2><div class=scroll><table class=examples><tr><th>prompt</th>"]
    parts += [f"<th>{escape(shown.label)}</th>" for shown in examples[0].images]
    for example in examples:
        parts.append(f"</tr><tr><td>{escape(example.prompt)}</td>")
        for shown in example.images:
            picture = "" if shown.picture is None else _img(shown)
            parts.append(f"<td class={STATES[shown.passed]}>{picture}{MARKS[shown.passed][0]}{escape(shown.told)}</td>")
    return "".join([*parts, "</tr></table></div>"])


def markdown(title: str, facts: Sequence[str], tables: Sequence[Table], pictures: Sequence[str]) -> str:
    """Return the same without examples; pictures are named, and lie beside it."""
    parts = [f"# {as_tables.escape(title)}", *[as_tables.escape(fact) for fact in facts]]
    for table in tables:
        parts += [f"## {as_tables.escape(table.title)}", as_tables.markdown(table), as_tables.escape(table.note)]
    parts += [f"## {name}\n\n![{name}]({name}.png)" for name in pictures]
    return "\n\n".join(parts) + "\n"


def _img(shown: Shown) -> str:
    assert shown.picture is not None
    strip = shown.picture.width >= WIDE * shown.picture.height
    data = _data_url(image_bytes(shrunk(shown.picture, STRIP if strip else THUMBNAIL)))
    return f"<img{' class=strip' if strip else ''} alt='{escape(shown.label)}' src='{data}'><br>"


def _data_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()
