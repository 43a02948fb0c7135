"""The baseline beside the steered samples: a sheet of pictures, or lines of text."""

from collections.abc import Sequence

from steer.errors import one_line
from steer.models.media.image import image_bytes
from steer.results.items import Item
from steer.results.sheets import Row, Tile, comparison_sheet, score_text


def comparison(plain: Sequence[Item], steered: Sequence[Item], steered_by: str) -> bytes:
    """Return a file with each prompt's plain particles and its steered particles.

    Args:
        plain: the prompts without methods.
        steered: the same prompts, in the same order.
        steered_by: methods and rewards, for the heading of a sheet.
    """
    if steered[0].medium.pictured:
        return _sheet(plain, steered, steered_by)
    return _listing(plain, steered).encode("utf-8", "surrogatepass")


def _sheet(plain: Sequence[Item], steered: Sequence[Item], steered_by: str) -> bytes:
    def tiles(item: Item) -> list[Tile]:
        return [
            Tile(picture, score_text(sample.reward), index in item.chosen)
            for index, sample in enumerate(item.samples)
            if (picture := item.medium.picture(sample.value)) is not None
        ]

    rows = [Row(str(new.prompt), tiles(old), tiles(new)) for old, new in zip(plain, steered, strict=True)]
    return image_bytes(comparison_sheet(rows, steered_by))


def _listing(plain: Sequence[Item], steered: Sequence[Item]) -> str:
    """Return each particle on a line after its score, with results starred."""
    lines = []
    for old, new in zip(plain, steered, strict=True):
        lines.append(f"{new.prompt}")
        for name, item in (("plain", old), ("steered", new)):
            lines.append(f"  {name}")
            for index, sample in enumerate(item.samples):
                score = "" if sample.reward is None else f"{sample.reward:8.3f}"
                star = "*" if index in item.chosen else " "
                lines.append(f"  {star} {score}  {one_line(item.medium.line(sample.value))}")
        lines.append("")
    return "\n".join(lines)
