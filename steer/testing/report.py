"""Writing the report of checks: ``report.json`` and a picture of the samples with the best and worst scores."""

from pathlib import Path

from PIL import Image

from steer.models.media import media_of
from steer.results.folder import OutputFolder
from steer.results.sheets import contact_sheet
from steer.testing.checks import Report
from steer.testing.subject import as_samples

REPORT_FILES = ("report.json", "best-and-worst.png")
SHOWN = 6


def write_report(report: Report, folder: Path) -> list[str]:
    """Write the files; return their places.

    Raises:
        SteerError: if the folder cannot be written to.
    """
    out = OutputFolder(folder)
    places = [out.write_json(REPORT_FILES[0], report.as_dict())]
    if report.scores:
        places.append(out.write_picture(REPORT_FILES[1], best_and_worst(report)))
    return places


def best_and_worst(report: Report, shown: int = SHOWN) -> Image.Image:
    """Draw the best samples in the upper row and the worst in the lower one, with prompts and scores."""
    order = sorted(range(len(report.scores)), key=lambda i: -report.scores[i])
    shown = min(shown, len(order) // 2)
    medium = media_of("image" if report.samples.ndim == 4 else "video")
    values = medium.values(as_samples(report.samples))
    pictures = {i: picture for i, value in enumerate(values) if (picture := medium.picture(value)) is not None}
    cells = [
        (pictures[i], str(report.prompts[i]), f"{label}: {report.scores[i]:.4g}")
        for label, rows in (("best", order[:shown]), ("worst", order[-shown:]))
        for i in rows
    ]
    return contact_sheet(cells, columns=shown)
