"""What ``steer generate`` does once its input is known: sample, save as it goes, compare and report."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

import click

from steer.cli.interrupt import Interrupt
from steer.cli.progress import ProgressBar
from steer.cli.report import print_report
from steer.cli.shared import one_line, quiet_libraries
from steer.errors import SteerError
from steer.models.options import ModelOptions, parse_loras
from steer.prompts.prompt import Prompt
from steer.registry.plugins import manager
from steer.results.cost import Cost
from steer.results.folder import COMPARISON, TEXT_COMPARISON, OutputFolder
from steer.results.sheets import Row, Tile, comparison_sheet
from steer.rewards.by_name import check_judges, reward_names
from steer.sampling.methods_by_name import check_names
from steer.sampling.sampler import Item, Sampler
from steer.settings.run import SETTINGS, check_setting


def render(
    prompts: list[Prompt],
    *,
    model: str,
    model_options: dict[str, Any],
    device: str | None,
    dtype: str | None,
    out: str,
    baseline: bool,
    as_json: bool,
    arguments: dict[str, Any],
    notes: Sequence[str] = (),
    drawn_from: Collection[str] = (),
) -> None:
    """Render prompts into a folder, every item written as soon as it is finished.

    ``notes`` say what was chosen for the user; a mistake in the command is told before them, and alone. ``drawn_from``
    are the inputs that stand in for prompts, if any: a model that reads none of them has nothing to draw.
    """
    quiet_libraries()
    options = ModelOptions(**{**model_options, "loras": parse_loras(model_options["loras"])})
    _check(arguments)
    for note in notes:
        click.echo(note, err=True)
    folder = OutputFolder(out)
    plain_folder = OutputFolder(f"{out}/plain") if baseline else None
    sampler = Sampler(model, device=device, dtype=dtype, model_options=options)
    if drawn_from and not sampler.backbone.inputs & set(drawn_from):
        named = " or ".join(f"--{name}" for name in drawn_from)
        raise SteerError(f"model {model!r} does not draw from {named}; give a PROMPT too, or another --model")
    label = "steering" if arguments["methods"] else "sampling"
    plain: list[Item] = []
    more: dict[str, Any] = {}
    with Interrupt() as interrupt:
        items, cost = _render(sampler, prompts, folder, label, arguments, interrupt)
        if plain_folder is not None:
            unsteered = [without_methods(item) for item in items]
            try:
                plain, plain_cost = _render(sampler, unsteered, plain_folder, "plain", _unsteered(arguments), interrupt)
            except BaseException:  # the steered ones are finished, whatever became of those beside them
                folder.finish(cost, complete=False)
                raise
    if plain_folder is not None:
        plain_folder.finish(plain_cost)
        if items[0].modality == "text":
            folder.write_text(TEXT_COMPARISON, _text_comparison(plain, items))
        else:
            folder.write_picture(COMPARISON, _comparison(plain, items, arguments))
        more["baseline"] = [
            {"id": item.prompt.id, "mean_reward": item.mean_reward, "reward": item.reward, "judge": dict(item.judge)}
            for item in plain
        ]
        more["baseline_cost"] = plain_cost.as_dict()
    data = folder.finish(cost, **more)
    if as_json:
        click.echo(json.dumps(data, indent=1, ensure_ascii=True, default=str))
    else:
        print_report(items, plain, cost, out)


def _check(arguments: dict[str, Any]) -> None:
    """Find typing errors before the model is loaded, which may take minutes."""
    for name in SETTINGS:
        if arguments.get(name) is not None:
            check_setting(name, arguments[name])
    judges = arguments.get("judge", [])
    check_judges(arguments["reward"], judges)
    check_names(arguments["methods"], [*arguments["reward"], *judges], arguments["options"], manager())


def _render(
    sampler: Sampler,
    prompts: list[Prompt],
    folder: OutputFolder,
    label: str,
    arguments: dict[str, Any],
    interrupt: Interrupt,
) -> tuple[list[Item], Cost]:
    items: list[Item] = []
    try:
        with ProgressBar(len(prompts), label) as bar:
            for item in sampler.stream(prompts, observers=[bar, interrupt], **arguments):
                folder.write(item)
                items.append(item)
                if len(items) < len(prompts):  # what is finished all the same is no less complete
                    interrupt.check()
    except BaseException:
        if items:  # Ctrl-C or an error in the middle: what is finished stays, with its sheet and result.json
            folder.finish(sampler.last_cost, complete=False)
            click.echo(
                f"stopped: {len(items)} of {len(prompts)} prompts are finished, in {folder.storage.name}", err=True
            )
        raise
    place = {prompt.id: number for number, prompt in enumerate(prompts)}
    return sorted(items, key=lambda item: place[item.prompt.id]), sampler.last_cost


def _unsteered(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a plain run: no method, and the options of rewards alone."""
    rewards = reward_names([*arguments["reward"], *arguments.get("judge", [])])
    options = {owner: table for owner, table in arguments["options"].items() if owner in rewards}
    return {**arguments, "methods": [], "options": options}


def without_methods(item: Item) -> Prompt:
    """Return an item's prompt for a plain run: its seed and the settings that its methods led to as its own."""
    settings = {name: value for name, value in item.recipe.settings.items() if value is not None}
    return item.prompt.having(seed=item.seed, settings=settings, options={})


def _text_comparison(plain: list[Item], steered: list[Item]) -> str:
    """Return each prompt with its plain particles and its steered ones, scores before them, the results starred."""
    lines = []
    for old, new in zip(plain, steered, strict=True):
        lines.append(f"{new.prompt}")
        for name, item in (("plain", old), ("steered", new)):
            lines.append(f"  {name}")
            for index, sample in enumerate(item.samples):
                score = "" if sample.reward is None else f"{sample.reward:8.3f}"
                lines.append(f"  {'*' if index in item.chosen else ' '} {score}  {one_line(sample.text)}")
        lines.append("")
    return "\n".join(lines)


def _comparison(plain: list[Item], steered: list[Item], arguments: dict[str, Any]) -> Any:
    def tiles(item: Item) -> list[Tile]:
        return [
            Tile(sample.image, "" if sample.reward is None else f"{sample.reward:.3f}", index in item.chosen)
            for index, sample in enumerate(item.samples)
        ]

    rows = [Row(str(new.prompt), tiles(old), tiles(new)) for old, new in zip(plain, steered, strict=True)]
    methods = " + ".join(arguments["methods"]) or "again plain"
    rewards = " + ".join(arguments["reward"])
    return comparison_sheet(rows, f"{methods} by {rewards}" if rewards else methods)
