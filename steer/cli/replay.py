"""``steer replay``: reproduce an image or a video from the recipe in its file, or a text from that in its folder."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from steer.cli.parts.folders import FORCE_HELP, claim, default_out
from steer.cli.parts.input_options import call_input_option, typed_call_inputs
from steer.cli.parts.option_groups import GroupedCommand, option
from steer.cli.parts.sampling_options import INPUT, MODEL, OUTPUT
from steer.cli.parts.shared import log_option, one_line, quiet_libraries
from steer.cli.parts.streams import put_json, reserve
from steer.errors import SteerError

ROUNDING = 1
"""Largest difference of samples that count as the same, of 255 levels: processors round differently."""


@click.command(cls=GroupedCommand)
@click.argument("file", type=click.Path(path_type=Path))
@option("--allow-files", is_flag=True, group=INPUT, help="Run the local .py files that the recipe names.")
@option("-m", "--model", group=MODEL, help="The model's present place, if the recipe names another one.")
@call_input_option
@option("--device", group=MODEL, help="cpu, cuda, …; CUDA if there is one; bits may differ between devices.")
@option("--out", metavar="FOLDER", group=OUTPUT, help="Output folder; outputs/replay-TIME by default.")
@option("--force", is_flag=True, group=OUTPUT, in_file=False, help=FORCE_HELP)
@option("--json", "as_json", is_flag=True, callback=reserve, group=OUTPUT, help="Print the outcome as JSON on stdout.")
@log_option
def replay(
    file: Path,
    out: str | None,
    force: bool,
    model: str | None,
    device: str | None,
    allow_files: bool,
    as_json: bool,
    input: tuple[str, ...],
) -> None:
    """Reproduce the image, video or text in FILE, bit for bit on the same machine.

    The exit code is 0 if it is the same, and 1 if it differs; it is written either way. Processors round
    differently: images count as the same if no channel of a pixel differs by more than 1/255, videos if no mean over
    16 by 16 pixels does.
    """
    from steer.models.stock.inputs import replaced_inputs
    from steer.render.replay import read_recipe, request_of

    recipe, slot = read_recipe(file)
    values = [str(value) for options in recipe.options.values() for value in options.values()]  # carinox.guard
    named = [name for name in [*recipe.methods, *recipe.reward, *recipe.judge, *values] if ".py" in name]
    if named and not allow_files:
        raise SteerError(
            f"the recipe runs the local file {one_line(named[0])!r}; look at it, then allow it with --allow-files"
        )
    if not recipe.replayable:
        raise SteerError("cannot replay the sample: its method, reward or input was an object in memory, not a name")

    from steer.cli.parts.generate_progress import ProgressBar
    from steer.results.folder import OutputFolder, sample_of
    from steer.results.names import file_stem
    from steer.results.recipe import versions

    request = request_of(recipe, model=model, device=device)
    prompt = replaced_inputs(recipe.as_prompt(), typed_call_inputs(input))
    quiet_libraries()
    folder = OutputFolder(out or default_out("replay-"))
    claim(folder.storage.name, lambda name: sample_of(name) == file_stem(recipe.prompt["id"]), force=force)
    sampler = request.sampler()
    with ProgressBar(1, "replaying") as bar:
        result = sampler.generate([prompt], observers=[bar], **request.arguments())
    item = result.items[0]
    index = next((i for i, sample in enumerate(item.samples) if sample.slot == slot), None)
    if index is None:
        raise SteerError(f"the recipe made no particle {slot}; the file was changed by hand")
    written = folder.write(replace(item, chosen=(index,)))[0]
    difference = item.medium.difference(file.read_bytes(), item.samples[index].value)
    same = difference <= ROUNDING
    outcome: dict[str, Any] = {"file": str(written), "equal": difference == 0, "same": same}
    outcome["max_difference"] = difference
    outcome["versions_differ"] = {
        name: [recipe.versions.get(name), now] for name, now in versions().items() if recipe.versions.get(name) != now
    }
    now_here = dict(item.recipe.files)
    if model is not None and model in now_here:
        now_here[recipe.model] = now_here.pop(model)
    outcome["files_differ"] = _changes(recipe.files, now_here)
    outcome["weights_differ"] = _changes(recipe.weights, item.recipe.weights)
    if as_json:
        put_json(outcome)
    else:
        by = f" by up to {difference}/255" if item.medium.pictured else ""
        verdict = f"the same, except for rounding{by}" if same else f"differs from the original{by}"
        click.echo(f"{one_line(str(written))}: {verdict if difference else 'equal to the original'}")
        for name, (then, now) in outcome["versions_differ"].items():
            click.echo(f"  {name} was {one_line(str(then))}, is {now}")
        for name, (then, now) in outcome["files_differ"].items():
            click.echo(f"  the file {one_line(name)} had SHA-256 {one_line(then)[:10]}…, has {str(now)[:10]}…")
        for name, (_, now) in outcome["weights_differ"].items():
            how = "are others than they were" if now is not None else "were used, and are not now"
            click.echo(f"  the weights of {one_line(name)} {how}")
    sys.exit(0 if same else 1)


def _changes(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, list[str | None]]:
    """Return what a recipe says of digests, and what is so now, where that differs."""
    return {name: [digest, now.get(name)] for name, digest in then.items() if now.get(name) != digest}
