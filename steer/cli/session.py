"""What ``steer generate`` does once its input is known: sample, save as it goes, compare and report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from steer.api import Item, Sampler
from steer.cli.progress import ProgressBar
from steer.cost import Cost
from steer.model_options import ModelOptions, parse_loras
from steer.output import OutputFolder
from steer.prompts import Prompt


def render(
    prompts: list[Prompt],
    *,
    model: str,
    model_options: dict[str, Any],
    device: str | None,
    dtype: str | None,
    out: Path,
    baseline: bool,
    as_json: bool,
    arguments: dict[str, Any],
) -> None:
    """Render prompts into a folder, every item written as soon as it is finished."""
    options = ModelOptions(**{**model_options, "loras": parse_loras(model_options["loras"])})
    sampler = Sampler(model, device=device, dtype=dtype, model_options=options)
    items, cost, folder = _render(sampler, prompts, out, "steering" if arguments["methods"] else "sampling", arguments)
    plain: list[Item] = []
    more: dict[str, Any] = {}
    if baseline:
        plain, plain_cost, plain_folder = _render(
            sampler, prompts, out / "plain", "plain", _unsteered(items[0], arguments)
        )
        plain_folder.finish(plain_cost)
        more["baseline"] = [
            {"id": item.prompt.id, "mean_reward": item.mean_reward, "reward": item.reward} for item in plain
        ]
    data = folder.finish(cost, **more)
    if as_json:
        click.echo(_dumps(data))
    else:
        _report(items, plain, cost, out)


def _render(
    sampler: Sampler, prompts: list[Prompt], out: Path, label: str, arguments: dict[str, Any]
) -> tuple[list[Item], Cost, OutputFolder]:
    items: list[Item] = []
    folder = OutputFolder(out)
    with ProgressBar(len(prompts), label) as bar:
        for item in sampler.stream(prompts, observers=[bar], **arguments):
            folder.write(item)
            items.append(item)
    return items, sampler.last_cost, folder


def _unsteered(item: Item, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a plain run: the same settings as resolved, seeds and particles, no method."""
    rewards = {name.split(":")[0] for name in arguments["reward"]}
    return {
        **arguments,
        **item.recipe.settings,
        "methods": [],
        "options": {owner: table for owner, table in arguments["options"].items() if owner in rewards},
    }


def _report(items: list[Item], plain: list[Item], cost: Cost, out: Path) -> None:
    console = Console()
    if items[0].reward is not None:
        table = Table(title="reward", title_justify="left")
        table.add_column("prompt", max_width=60)
        sources = [("plain ", plain)] if plain else []
        for name, _ in [*sources, ("", items)]:
            table.add_column(f"{name}mean", justify="right")
            table.add_column(f"{name}chosen", justify="right")
        for index, item in enumerate(items):
            shown = [*([plain[index]] if plain else []), item]
            table.add_row(str(item.prompt), *[f"{_number(v)}" for i in shown for v in (i.mean_reward, i.reward)])
        if len(items) > 1:
            table.add_section()
            columns = [v for group in ([plain, items] if plain else [items]) for v in _means(group)]
            table.add_row("mean", *[_number(v) for v in columns])
        console.print(table)
    console.print(
        f"{len(items)} prompts, {cost.nfe} denoiser evaluations, {cost.decodes} decodes, "
        f"{cost.reward_calls} reward calls, {cost.seconds:.1f} s",
        highlight=False,
    )
    console.print(f"images, traces and sheet.png: {out}", highlight=False, soft_wrap=True)


def _means(items: list[Item]) -> list[float]:
    return [
        sum(item.mean_reward or 0.0 for item in items) / len(items),
        sum(item.reward or 0.0 for item in items) / len(items),
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _dumps(data: Any) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False, default=str)
