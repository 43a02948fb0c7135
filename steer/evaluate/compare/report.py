"""The report of a comparison: one self-contained HTML file, and the same in Markdown."""

from collections.abc import Sequence

from steer.evaluate.compare.plots import plots
from steer.evaluate.compare.summary import Summary, budget_text
from steer.evaluate.compare.tables import tables
from steer.evaluate.page import Example, html, markdown

TITLE = "Comparison"


def report(summary: Summary, facts: Sequence[str], examples: Sequence[Example]) -> dict[str, bytes]:
    """Return a report's files by name."""
    pictures, shown = plots(summary), tables(summary)
    page = html(TITLE, facts, shown, pictures, examples)
    text = markdown(TITLE, facts, shown, list(pictures))
    files = {f"{name}.png": data for name, data in pictures.items()}
    return {**files, "report.html": page.encode(), "report.md": text.encode()}


def example_label(label: str, budget: str | None) -> str:
    """Return the head of an example's column."""
    return f"{label} {budget_text(budget)}".rstrip()
