"""The report that ``steer generate`` prints at its end."""

from __future__ import annotations

from rich.table import Table

from steer.cli.parts.shared import one_line
from steer.cli.parts.tables import stdout, table
from steer.results.cost import Cost
from steer.results.names import comparison_name, overview_name
from steer.sampling.sampler import Item

MAX_ROWS = 40
"""Prompts shown one by one; further ones only enter the means (result.json has all)."""

NUMBER_WIDTH = 8


def print_report(items: list[Item], plain: list[Item], cost: Cost, out: str) -> None:
    """Print rewards (plain beside steered, if there are plain items), the cost, and the output's place."""
    console = stdout()
    if items[0].reward is not None:
        console.print(_table(items, plain))
    medium = items[0].medium
    if not medium.pictured:
        for item in items[:MAX_ROWS]:
            for index in item.chosen:
                line = medium.line(item.samples[index].value)
                console.print(f"{one_line(item.prompt)} → {one_line(line)}", soft_wrap=True)
    for name in items[0].judge:
        console.print(_verdict(name, items, plain), soft_wrap=True)
    count = f"{len(items)} prompt" + ("s" if len(items) > 1 else "")
    backwards = f", {cost.backwards} backward" if cost.backwards else ""
    console.print(
        f"{count}, {cost.nfe} denoiser evaluations{backwards}, {cost.decodes} decodes, "
        f"{cost.reward_calls} reward calls, {cost.seconds:.1f} s"
    )
    names = [overview_name(medium), *([comparison_name(medium)] if plain else [])]
    console.print(f"{medium.plural}, traces and {', '.join(names)} in {one_line(out)}", soft_wrap=True)


def _table(items: list[Item], plain: list[Item]) -> Table:
    """Return the rewards of each prompt: the mean over its particles, and that of the chosen one."""
    groups = [("plain", plain), ("steered", items)] if plain else [("", items)]
    head = [f"{name}\n{what}".strip() for name, _ in groups for what in ("mean", "chosen")]
    rows = []
    for index in range(min(len(items), MAX_ROWS)):
        values = [v for _, group in groups for v in (group[index].mean_reward, group[index].reward)]
        rows.append((items[index].prompt, *map(_number, values)))
    if len(items) > MAX_ROWS:
        rows.append((f"… and {len(items) - MAX_ROWS} more", *("" for _ in head)))
    shown = table(("prompt", *head), rows, text=1, title="reward")
    if len(items) > 1:
        shown.add_section()
        shown.add_row("mean", *[_number(value) for _, group in groups for value in _means(group)])
    # numbers are never cut; prompts are, to the rest of the line
    prompt = shown.columns[0]
    prompt.no_wrap, prompt.overflow = True, "ellipsis"
    prompt.max_width = max(20, stdout().width - len(head) * (NUMBER_WIDTH + 1) - 2)
    return shown


def _verdict(name: str, items: list[Item], plain: list[Item]) -> str:
    """Return a judge's line: its mean over the chosen samples. No method is steered by a judge."""
    groups = [("plain", plain), ("steered", items)] if plain else [("chosen", items)]
    means = [f"{label} {sum(item.judge[name] for item in group) / len(group):.3f}" for label, group in groups]
    return f"judge {one_line(name)}: {', '.join(means)} (mean over prompts; did not steer)"


def _means(items: list[Item]) -> tuple[float, float]:
    means = [item.mean_reward or 0.0 for item in items]
    chosen = [item.reward or 0.0 for item in items]
    return sum(means) / len(items), sum(chosen) / len(items)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
