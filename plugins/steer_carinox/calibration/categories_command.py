"""``steer categories``: the category of each prompt, the reason, and the weights of its rewards."""

from pathlib import Path

import click


@click.command("categories")
@click.argument("prompts", nargs=-1)
@click.option("-f", "--file", type=click.Path(path_type=Path), help="Prompt file.")
@click.option("--column", metavar="NAME", help="Column or key of --file that holds the prompts.")
@click.option("--weights", default="published", show_default=True, help="Table of weights to show.")
def command(prompts: tuple[str, ...], file: Path | None, column: str | None, weights: str) -> None:
    """Show the category of each prompt, the reason, and the category's weights."""
    # imported here: help should not wait for torch
    from steer import Prompt, read_prompts
    from steer_carinox.calibration.categories import category_of
    from steer_carinox.weights import find_table

    table = find_table(weights)
    rows = [*map(Prompt, prompts), *(read_prompts(file, column=column) if file else [])]
    if not rows:
        raise click.UsageError("got no prompt; give prompts, or a file with --file")
    for prompt in rows:
        found = category_of(prompt, table.categories)
        row = table.every or table.rows.get(found.name, {})
        shown = ", ".join(f"{name} {weight:g}" for name, weight in row.items()) or "all 1"
        text = "".join(c if c.isprintable() else "?" for c in prompt)
        click.echo(f"{found.name:12} {text}  [{found.reason}; {shown}]")
