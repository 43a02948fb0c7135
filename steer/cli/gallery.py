"""``steer gallery``: build the page of what was rendered."""

from __future__ import annotations

import click

from steer.cli.parts.shared import count, log_option, one_line
from steer.cli.parts.streams import put_json, reserve
from steer.errors import SteerError


@click.command()
@click.argument("folder", metavar="DIR")
@click.option("--json", "as_json", is_flag=True, callback=reserve, help="Print the result as JSON on stdout.")
@log_option
def gallery(folder: str, as_json: bool) -> None:
    """Build DIR/index.html from the runs in DIR and below it.

    The page shows runs of `steer render` and `steer generate`, and several runs side by side, prompt by prompt.
    """
    from steer.render.page import build_page
    from steer.results.storage import storage_at

    storage = storage_at(folder)
    page = build_page(storage)
    if page is None:
        raise SteerError(f"{folder} holds no run; expected a folder of steer render or generate, or a folder above it")
    if as_json:
        data = {"page": page.place, "images": page.images, "failed": page.failed, "runs": page.runs}
        put_json(data)
        return
    runs = count(page.runs, "run")
    click.echo(f"{count(page.images, 'sample')} of {runs}: {one_line(page.place)}")
