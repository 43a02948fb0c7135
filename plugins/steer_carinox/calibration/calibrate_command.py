"""``steer calibrate``: ratings in, a table of category weights out, with intervals and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steer.plugin import force_option

if TYPE_CHECKING:
    from steer_carinox.calibration.correlations import Calibration


@click.command("calibrate")
@click.argument("ratings", type=click.Path(path_type=Path))
@click.option("--rewards", required=True, metavar="A,B,…", help="Rewards to weigh, as written for carinox.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="TOML file; a .png is written beside it.")
@force_option
@click.option("--rating", default="rating", show_default=True, help="Column with the rating, or a reward in 'scores'.")
@click.option("--within", is_flag=True, help="Use only the order of images within a prompt.")
@click.option("--draws", type=click.IntRange(100), default=1000, show_default=True, help="Bootstrap samples.")
@click.option("--device", help="cpu, cuda, …; CUDA if available.")
def command(
    ratings: Path, rewards: str, out: Path, force: bool, rating: str, within: bool, draws: int, device: str | None
) -> None:
    """Derive category weights for carinox from RATINGS.

    RATINGS are JSON lines with prompt, rating and image (or file_name, file). A line without a category gets one by
    rules from its prompt. Scores already in the lines (as from `steer score --out`) are not computed again. A reward's
    weight in a category is its rank correlation with the ratings, divided by the mean correlation of all rewards.
    """
    import numpy as np

    from steer import SteerError
    from steer.plugin import check_names, claim_files, make_reward, manager, pick_device
    from steer.training import write_whole
    from steer_carinox.calibration.correlations import Ratings, calibrate, warn_of
    from steer_carinox.calibration.ratings import read_ratings, score_all
    from steer_carinox.weights import toml_text

    names = _labels(rewards)
    if len(names) < 2:
        raise SteerError(f"--rewards {rewards}: weights are relative; give at least two rewards, such as clip,shapes")
    if rating in names:
        raise SteerError(f"--rating {rating} is among --rewards; a reward cannot be judged by itself")
    check_names([], names, {}, manager())
    where = pick_device(device)
    if out.suffix != ".toml":
        raise SteerError(f"--out {out}: expected a name that ends in .toml")
    claim_files(out, out.with_suffix(".png"), force=force)
    rated = read_ratings(ratings, rating, names)

    def make(name: str) -> Any:
        reward = make_reward([name], {}, manager(), where)
        assert reward is not None
        return reward

    scores = {name: np.array(score_all(rated, name, partial(make, name), where)) for name in names}
    values = np.array([row.rating for row in rated])
    texts = list(dict.fromkeys(row.prompt for row in rated))
    prompt = np.array([texts.index(row.prompt) for row in rated])
    found: dict[str, Calibration] = {}
    for category in [*dict.fromkeys(sorted(row.category.name for row in rated)), "overall"]:
        mine = np.array([category in ("overall", row.category.name) for row in rated])
        part = Ratings(values[mine], {name: column[mine] for name, column in scores.items()}, prompt[mine])
        result = calibrate(part, within=within, draws=draws)
        warn_of(category, result, names)
        if result is not None:
            found[category] = result
    if not found:
        raise SteerError(f"{ratings}: no category has ratings to derive weights from")
    rows = {category: {name: w.estimate for name, w in c.weight.items()} for category, c in found.items()}
    comments = [
        f"Weights of {', '.join(names)} by category, from {len(rated)} ratings of {len(texts)} prompts.",
        "Use: steer generate -p carinox -o carinox.weights=THIS_FILE; made by steer calibrate.",
        *(f"{category}: {line}" for category, c in found.items() for line in _lines(c)),
    ]
    picture, text = _picture(found, names), toml_text(rows, comments)
    write_whole(out.with_suffix(".png"), lambda path: path.write_bytes(picture))
    write_whole(out, lambda path: path.write_text(text, encoding="utf-8"))
    for category, result in found.items():
        click.echo(f"{category} ({result.ratings} ratings, {result.prompts} prompts)")
        for line in _lines(result):
            click.echo(f"  {line}")
    click.echo(f"wrote {out} and {out.with_suffix('.png')}")


def _labels(rewards: str) -> list[str]:
    """Return carinox's label of each reward; a written scale is dropped because it changes no rank."""
    from steer import SteerError
    from steer.plugin import parse_expression
    from steer_carinox.weights import split_commas

    names: list[str] = []
    for text in filter(str.strip, split_commas(rewards)):
        nodes = parse_expression(text.strip())
        if len(nodes) > 1 or nodes[0].weight != 1:
            raise SteerError(f"--rewards {rewards}: {text.strip()!r} is weighted or a sum; give single rewards, A,B,…")
        if nodes[0].label in names:
            raise SteerError(f"--rewards {rewards}: {nodes[0].label!r} is named twice; give it once")
        names.append(nodes[0].label)
    return names


def _lines(found: Calibration) -> list[str]:
    return [
        f"{name}: correlation {found.correlation[name]}, weight {w.estimate:.2f} [{w.low:.2f}, {w.high:.2f}]"
        for name, w in found.weight.items()
    ]


def _picture(found: dict[str, Calibration], names: Sequence[str]) -> bytes:
    """Draw each category's correlations with their intervals."""
    from matplotlib.figure import Figure

    from steer.plugin import png

    figure = Figure(figsize=(max(6, 1.1 * len(found) * len(names) / 2), 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        intervals = [c.correlation[name] for c in found.values()]
        heights = [i.estimate for i in intervals]
        reach = [[i.estimate - i.low for i in intervals], [i.high - i.estimate for i in intervals]]
        places = [index + (number - (len(names) - 1) / 2) * width for index in range(len(found))]
        axes.bar(places, heights, width, yerr=[[max(0.0, r) for r in side] for side in reach], capsize=2, label=name)
    axes.axhline(0, color="black", lw=0.8)
    axes.set_xticks(range(len(found)), [f"{name}\n{c.ratings} of {c.prompts}" for name, c in found.items()], fontsize=8)
    axes.set_ylabel("rank correlation with the ratings")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, fontsize=8, frameon=False)
    return png(figure)
