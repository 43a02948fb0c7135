"""Reports as one self-contained HTML file, and the same in Markdown."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image

from steer.evaluate import tables as as_tables
from steer.evaluate.tables import Table
from steer.models.media.image import image_bytes, shrunk
from steer.results.sheets import WIDE

THUMBNAIL, STRIP = 192, 576
"""Pixels of the longer side of a picture, and of a filmstrip."""
CSS = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1200px;margin:2em auto;padding:0 1em;color:#1a1a1a}
table{border-collapse:collapse;font-size:13px;margin:.5em 0}
th,td{padding:.25em .7em;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}
th:first-child,td:first-child,th:nth-child(2),td:nth-child(2){text-align:left}
.scroll{overflow-x:auto}
.note{color:#666;font-size:13px}
img{max-width:100%}
.examples td{text-align:center;white-space:normal;max-width:200px;font-size:12px;vertical-align:top}
.examples img{width:128px;image-rendering:auto}
.examples .strip{width:384px;max-width:none}
"""


@dataclass(frozen=True)
class Example:
    """One prompt with each cell's image and score.

    Attributes:
        prompt: its text.
        images: label, picture or ``None``, and score of each cell, in the cells' order.
    """

    prompt: str
    images: Sequence[tuple[str, Image.Image | None, str]]


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
    for table in tables:
        head = "".join(f"<th>{escape(cell)}</th>" for cell in table.head)
        rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
        parts.append(f"<h2>{escape(table.title)}</h2><div class=scroll><table><tr>{head}</tr>{rows}</table></div>")
        parts.append(f"<p class=note>{escape(table.note)}</p>")
    for name, data in pictures.items():
        parts.append(f"<h2>{escape(name)}</h2><img alt='{escape(name)}' src='{_data_url(data)}'>")
    if examples:
        parts.append("<h2>Examples</h2><div class=scroll><table class=examples><tr><th>prompt</th>")
        parts += [f"<th>{escape(label)}</th>" for label, _, _ in examples[0].images]
        parts.append("</tr>")
        for example in examples:
            parts.append(f"<tr><td>{escape(example.prompt)}</td>")
            for label, image, score in example.images:
                parts.append(f"<td>{'' if image is None else _img(label, image)}{escape(score)}</td>")
            parts.append("</tr>")
        parts.append("</table></div>")
    return "".join(parts) + "</html>\n"


def markdown(title: str, facts: Sequence[str], tables: Sequence[Table], pictures: Sequence[str]) -> str:
    """Return the same without examples; pictures are named, and lie beside it."""
    parts = [f"# {as_tables.escape(title)}", *[as_tables.escape(fact) for fact in facts]]
    for table in tables:
        parts += [f"## {as_tables.escape(table.title)}", as_tables.markdown(table), as_tables.escape(table.note)]
    parts += [f"## {name}\n\n![{name}]({name}.png)" for name in pictures]
    return "\n\n".join(parts) + "\n"


def _img(label: str, image: Image.Image) -> str:
    strip = image.width >= WIDE * image.height
    data = _data_url(image_bytes(shrunk(image, STRIP if strip else THUMBNAIL)))
    return f"<img{' class=strip' if strip else ''} alt='{escape(label)}' src='{data}'><br>"


def _data_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()
