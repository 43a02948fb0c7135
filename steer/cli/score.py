"""``steer score``: score files of images and videos by rewards."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steer.cli.parts.bars import Bar
from steer.cli.parts.shared import log_option, one_line
from steer.cli.parts.streams import csv_option, json_option, put_csv, put_json
from steer.cli.parts.tables import stdout, table
from steer.errors import SteerError
from steer.settings.options import parse_assignments

if TYPE_CHECKING:
    from steer.evaluate.score.files import FileError
    from steer.evaluate.score.rows import Row
    from steer.rewards.combinations import WeightedSum
    from steer.rewards.reward import RewardFunction


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-r", "--reward", multiple=True, required=True, metavar="EXPR", help="Reward; repeatable.")
@click.option("--prompt", metavar="TEXT", help="Prompt of all files; '' if the reward needs none.")
@click.option(
    "--metadata",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="JSON lines or CSV with file_name and prompt, or a folder of texts.",
)
@click.option("--column", metavar="NAME", help="Key of --metadata that holds the prompts.")
@click.option("-o", "option", multiple=True, metavar="PLUGIN.OPTION=VALUE", help="Plugin option; repeatable.")
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True, help="Images per call.")
@click.option("--device", help="cpu, cuda, …; CUDA if there is one.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Append scores as JSON lines; resumes.")
@json_option
@csv_option
@log_option
def score(
    files: tuple[Path, ...],
    reward: tuple[str, ...],
    prompt: str | None,
    metadata: Path | None,
    column: str | None,
    option: tuple[str, ...],
    batch: int,
    device: str | None,
    out: Path | None,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Score FILES: images and videos, or folders with all in them.

    A file's prompt comes from --prompt, --metadata, a metadata.jsonl or text file beside it, or the file itself.
    Files that cannot be read are reported and the others are scored; the exit code is then 1. With
    --out, scores are kept batch by batch, and the same command resumes.
    """
    if as_json and as_csv:
        raise SteerError("got both --json and --csv; give one of the two")
    if prompt is not None and metadata is not None:
        raise SteerError("got both --prompt and --metadata; give one of the two")

    from steer.cli.parts.shared import quiet_libraries
    from steer.evaluate.score.files import FileError, find_files, medium_of
    from steer.evaluate.score.prompts import PromptSource, check_prompts, needs_prompt
    from steer.evaluate.score.rows import ScoreFile
    from steer.evaluate.score.score import expressions_of, score_files
    from steer.models.device import pick_device
    from steer.registry.plugins import manager
    from steer.rewards.by_name import check_modalities, make_reward
    from steer.sampling.methods_by_name import check_names, check_owners

    names = expressions_of(reward)
    options = parse_assignments(option)
    check_names([], names, options, manager())
    check_owners(options, [], names)
    paths = find_files(files)
    for modality in sorted({medium_of(path).name for path in paths}):
        check_modalities(names, modality, options, manager(), "steer score was given")
    kept = ScoreFile(out) if out else None
    quiet_libraries()
    place = pick_device(device)
    rewards: dict[str, WeightedSum] = {}
    shared: dict[str, RewardFunction] = {}
    for name in names:
        made = make_reward([name], options, manager(), place, shared)
        assert made is not None
        rewards[name] = made
    source = PromptSource(prompt, metadata, column, needed=any(map(needs_prompt, rewards.values())), roots=files)
    check_prompts(paths, source)
    if inferred := source.inferred():
        click.echo(f"steer: files with prompts by {inferred}", err=True)
    rows: dict[str, Row] = {}
    errors: list[FileError] = []
    with ExitStack() as stack:
        how: dict[str, Any] = {"batch": batch, "device": place, "options": options}
        if kept is not None:
            stack.enter_context(kept.open())
            how |= {"done": kept.done, "keep": kept.add}
        bar = stack.enter_context(Bar("scoring", len(paths)))
        for outcome in score_files(paths, rewards, source, **how):
            bar.advance()
            if isinstance(outcome, FileError):
                errors.append(outcome)
                click.echo(f"steer: warning: {one_line(str(outcome))}", err=True)
                continue
            rows[outcome.file] = outcome
    _print([rows[str(path)] for path in paths if str(path) in rows], errors, names, as_json, as_csv)
    sys.exit(1 if errors else 0)


def _plain(row: Row, names: list[str]) -> dict[str, Any]:
    details = {name: row.details[name] for name in names if name in row.details}
    scores = {name: row.scores[name] for name in names}
    return {"file": row.file, "prompt": row.prompt, "scores": scores, **({"details": details} if details else {})}


def _print(rows: list[Row], errors: list[FileError], names: list[str], as_json: bool, as_csv: bool) -> None:
    means = {name: sum(row.scores[name] for row in rows) / len(rows) for name in names} if rows else {}
    if as_json:
        data: dict[str, Any] = {
            "rows": [_plain(row, names) for row in rows],
            "means": means,
            "errors": [str(error) for error in errors],
        }
        put_json(data)
        return
    if as_csv:
        scored = ([row.file, row.prompt, *(row.scores[name] for name in names)] for row in rows)
        put_csv([["file", "prompt", *names], *scored])
        return
    cells = ((row.file, row.prompt, *(f"{row.scores[name]:.4f}" for name in names)) for row in rows)
    shown = table(("file", "prompt", *names), cells, text=2)
    if len(rows) > 1:
        shown.add_section()
        shown.add_row("mean", "", *(f"{means[name]:.4f}" for name in names))
    stdout().print(shown)
