"""The report of a comparison: one self-contained HTML file, and the same in Markdown."""

from collections.abc import Sequence

from steer.evaluate.compare.plots import plots
from steer.evaluate.compare.summary import Line, Summary, budget_text
from steer.evaluate.compare.tables import tables
from steer.evaluate.page import Example, html, markdown
from steer.models.media.image import image_bytes
from steer.results.grid import grid

TITLE, EXAMPLES = "Comparison", "examples"


def report(summary: Summary, facts: Sequence[str], examples: Sequence[Example]) -> dict[str, bytes]:
    """Return a report's files by name."""
    pictures, shown = plots(summary), tables(summary)
    page = html(TITLE, facts, shown, pictures, examples)
    text = markdown(TITLE, facts, shown, list(pictures))
    files = {f"{name}.png": data for name, data in pictures.items()}
    if examples:
        rows = [(example.prompt, example.images) for example in examples]
        files[f"{EXAMPLES}.png"] = image_bytes(grid([_head(line) for line in summary.lines], rows))
        text += f"\n## {EXAMPLES}\n\n![{EXAMPLES}]({EXAMPLES}.png)\n"
    return {**files, "report.html": page.encode(), "report.md": text.encode()}


def _head(line: Line) -> tuple[str, str]:
    """Return a method and what it cost per prompt."""
    nfe, seconds = line.cost["nfe"] or 0.0, line.cost["seconds"] or 0.0
    return line.label, f"{nfe:.0f} evaluations, {seconds:.1f} s"


def example_label(label: str, budget: str | None) -> str:
    """Return the head of an example's column."""
    return f"{label} {budget_text(budget)}".rstrip()
