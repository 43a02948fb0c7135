"""``steer rewards``: compare rewards on scenes whose true rewards are known."""

from __future__ import annotations

import os
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import click

from steer.cli.parts.shared import log_option, one_line
from steer.cli.parts.streams import json_option, put_json
from steer.cli.parts.tables import stdout, table
from steer.settings.options import parse_assignments

if TYPE_CHECKING:
    from steer.evaluate.agreement import Comparison


@click.command()
@click.argument("names", nargs=-1, metavar="[EXPR]...")
@click.option("--truth", default="shapes", show_default=True, metavar="EXPR", help="Reward that counts as the truth.")
@click.option("-o", "option", multiple=True, metavar="PLUGIN.OPTION=VALUE", help="Plugin option; repeatable.")
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True, help="Samples per call.")
@click.option("--device", help="cpu, cuda, …; CUDA if there is one.")
@json_option
@log_option
def rewards(
    names: tuple[str, ...], truth: str, option: tuple[str, ...], batch: int, device: str | None, as_json: bool
) -> None:
    """Compare the rewards EXPR, or all that are installed: rank correlation with the truth, time and memory.

    Nothing is downloaded: rewards whose weights are not on this machine are skipped.
    """
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"  # read when the libraries are imported
    from steer.cli.parts.shared import quiet_libraries
    from steer.evaluate.agreement import compare
    from steer.models.device import pick_device
    from steer.registry.local_files import is_file_reference
    from steer.registry.plugins import manager
    from steer.rewards.by_name import check_modalities, make_reward
    from steer.rewards.expressions import leaves, parse_expression
    from steer.rewards.reward import RewardFunction
    from steer.sampling.methods_by_name import check_owners
    from steer.testing import example_samples

    quiet_libraries()
    place = pick_device(device)
    options = parse_assignments(option)
    chosen = list(names) or [name for name in manager().registry.rewards if name != truth]
    check_owners(options, [], [*chosen, truth])
    for term in (term for name in (*chosen, truth) for term in leaves(parse_expression(name))):
        if not is_file_reference(term.name):
            manager().registry.get("reward", term.name)  # a misspelled name is an error, not a reward to skip

    def make(name: str) -> RewardFunction:
        check_modalities([name], "image", options, manager())  # the samples are images
        made = make_reward([name], options, manager(), place)
        assert made is not None
        return made

    images, prompts = example_samples()
    images = images.to(place)
    facts = make(truth)(images, prompts).tolist()
    rows = [compare(name, partial(make, name), images, prompts, facts, batch=batch) for name in chosen]
    if as_json:
        data = {"truth": truth, "samples": len(prompts), "batch": batch, "rewards": [asdict(row) for row in rows]}
        put_json(data)
    else:
        _print(rows, truth, len(prompts), batch)


def _print(rows: list[Comparison], truth: str, samples: int, batch: int) -> None:
    console = stdout()
    shown = [row for row in rows if not row.skipped]
    if shown:
        title = f"rank correlation with {one_line(truth)}, {samples} scenes"
        columns = list(shown[0].correlation)
        rows_shown = []
        for row in shown:
            cells = ["–" if (value := row.correlation[column]) is None else f"{value:.2f}" for column in columns]
            rows_shown.append((row.name, *cells, f"{row.batch_ms:.0f}", f"{row.memory_mb:.0f}"))
        console.print(table(("reward", *columns, f"ms/{batch}", "MB"), rows_shown, text=1, title=title))
    for row in rows:
        if row.skipped:
            console.print(f"skipped {one_line(row.name)}: {one_line(row.skipped)}", soft_wrap=True)
