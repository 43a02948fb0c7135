"""``steer measure``: folders against references: FID, KID, CMMD, CLIP score, LPIPS, mean IoU, accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steer.cli.parts.bars import Bar
from steer.cli.parts.shared import log_option, quiet_libraries
from steer.cli.parts.streams import json_option, put_json
from steer.errors import SteerError

if TYPE_CHECKING:
    from steer.evaluate.statistics import Interval

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

FEW = 10_000
"""Images from which on FID is usually reported; with fewer it is too large."""

FOLDER = click.Path(path_type=Path, file_okay=False)
PLACE = click.Path(path_type=Path)


@click.group()
def measure() -> None:
    """Measure a folder of images, masks, classes or texts, most of them against a reference."""


def _options(*, batch: bool = True) -> Decorator:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        command = log_option(json_option(command))
        if batch:
            command = click.option("--device", help="cpu, cuda, …; CUDA if there is one.")(command)
            command = click.option(
                "--batch", type=click.IntRange(1), default=32, show_default=True, help="Images per pass."
            )(command)
        return command

    return decorate


def _reference(what: str) -> Decorator:
    return click.option("--reference", type=PLACE, required=True, metavar="PLACE", help=what)


weights_option = click.option("--weights", metavar="FILE", help="Local file of the network of FID.")


@measure.command()
@click.argument("folder", type=FOLDER)
@_reference("Folder of real images, or a .npz with mu and sigma.")
@weights_option
@_options()
def fid(folder: Path, reference: Path, weights: str | None, batch: int, device: str | None, as_json: bool) -> None:
    """Fréchet inception distance of the images in FOLDER to the reference; lower is better.

    It is biased: sets of different numbers of images do not compare. Published figures use 10,000 to 50,000.
    """
    from steer.evaluate.measure import inception
    from steer.evaluate.measure.images import images_in

    paths = images_in(folder, "folder")
    real = None if reference.suffix == ".npz" else images_in(reference, "reference")
    known = inception.read_statistics(reference) if real is None else None
    network, where = _inception(weights, device)
    with Bar("features", len(paths) + len(real or [])) as bar:
        found = inception.statistics_of(inception.features(network, paths, batch, bar.advance, where))
        if real is not None:
            known = inception.statistics_of(inception.features(network, real, batch, bar.advance, where))
    assert known is not None
    if len(paths) < FEW:
        click.echo(f"steer: warning: FID of {len(paths)} images is too large; compare equal numbers alone", err=True)
    _show("fid", inception.fid(found, known), as_json, images=len(paths), reference=len(real) if real else None)


@measure.command()
@click.argument("folder", type=FOLDER)
@_reference("Folder of real images.")
@weights_option
@click.option("--subset", type=click.IntRange(2), help="Images per draw; 1000, or as many as there are, by default.")
@_options()
def kid(
    folder: Path, reference: Path, weights: str | None, subset: int | None, batch: int, device: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Kernel inception distance of the images in FOLDER to the reference, with its sd over draws; lower is better."""
    from steer.evaluate.measure import inception
    from steer.evaluate.measure.images import images_in

    paths, real = images_in(folder, "folder"), images_in(reference, "reference")
    network, where = _inception(weights, device)
    with Bar("features", len(paths) + len(real)) as bar:
        found = inception.features(network, paths, batch, bar.advance, where)
        known = inception.features(network, real, batch, bar.advance, where)
    mean, sd = inception.kid(found, known, subset)
    _show("kid", mean, as_json, sd=sd, images=len(paths), reference=len(real))


@measure.command()
@click.argument("folder", type=FOLDER)
@_reference("Folder of real images.")
@click.option("--clip", metavar="NAME", help="CLIP: shapes, or an open_clip NAME/PRETRAINED; the paper's by default.")
@_options()
def cmmd(folder: Path, reference: Path, clip: str | None, batch: int, device: str | None, as_json: bool) -> None:
    """CLIP maximum mean discrepancy of the images in FOLDER to the reference; lower is better."""
    from steer.evaluate.compare.embedding import load_embedding
    from steer.evaluate.measure.clips import CLIP, embeddings
    from steer.evaluate.measure.clips import cmmd as distance
    from steer.evaluate.measure.images import images_in
    from steer.models.device import pick_device
    from steer.registry.plugins import manager

    paths, real = images_in(folder, "folder"), images_in(reference, "reference")
    quiet_libraries()
    embed = load_embedding(clip or CLIP, manager(), pick_device(device))
    with Bar("embeddings", len(paths) + len(real)) as bar:
        both = [embeddings(embed, each, batch, bar.advance) for each in (paths, real)]
    _show("cmmd", distance(*both), as_json, images=len(paths), reference=len(real), clip=clip or CLIP)


@measure.command()
@click.argument("folder", type=FOLDER)
@click.option("--prompt", metavar="TEXT", help="Prompt of all images.")
@click.option("--metadata", type=PLACE, metavar="FILE", help="JSON lines or CSV with file_name and prompt.")
@click.option("--clip", metavar="NAME", help="CLIP as in the reward clip:NAME; shapes by default.")
@_options()
def clip(
    folder: Path, prompt: str | None, metadata: Path | None, clip: str | None, batch: int, device: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """CLIP score, 100·cos, of the images in FOLDER and their prompts: the mean with its interval over images."""
    import numpy as np

    from steer.evaluate.measure.images import images_in
    from steer.evaluate.score.files import FileError
    from steer.evaluate.score.prompts import PromptSource, check_prompts
    from steer.evaluate.score.score import score_files
    from steer.evaluate.statistics import MIN_PROMPTS, bootstrap_mean
    from steer.models.device import pick_device
    from steer.registry.plugins import manager
    from steer.rewards.by_name import make_reward

    paths, name = images_in(folder, "folder"), f"clip:{clip or 'shapes'}"
    source = PromptSource(prompt, metadata, roots=[folder])
    check_prompts(paths, source)
    quiet_libraries()
    where = pick_device(device)
    reward = make_reward([name], {}, manager(), where)
    assert reward is not None
    scores = []
    with Bar("scores", len(paths)) as bar:
        for outcome in score_files(paths, {name: reward}, source, batch=batch, device=where):
            if isinstance(outcome, FileError):
                raise outcome
            bar.advance()
            scores.append(outcome.scores[name])
    interval = bootstrap_mean(scores) if len(scores) >= MIN_PROMPTS else None
    _show("clip", float(np.mean(scores)), as_json, interval=interval, images=len(paths), clip=name)


@measure.command()
@click.argument("folder", type=FOLDER)
@_reference("Folder of images of the same names.")
@click.option("--net", metavar="FILE", help="Local file of AlexNet, as torchvision publishes it.")
@click.option("--heads", metavar="FILE", help="Local file of the channels' weights, alex.pth of LPIPS 0.1.")
@_options()
def lpips(
    folder: Path, reference: Path, net: str | None, heads: str | None, batch: int, device: str | None, as_json: bool
) -> None:
    """LPIPS (AlexNet, 0.1) of each image in FOLDER to that of the same name in the reference; lower is more alike."""
    import numpy as np
    import torch

    from steer.evaluate.measure.images import pairs_of
    from steer.evaluate.measure.lpips import load_lpips
    from steer.evaluate.score.images import read_image
    from steer.evaluate.statistics import MIN_PROMPTS, bootstrap_mean
    from steer.models.device import pick_device

    pairs = pairs_of(folder, reference)
    quiet_libraries()
    where = pick_device(device)
    network = load_lpips(net, heads, where)
    found = []
    with Bar("pairs", len(pairs)) as bar, torch.no_grad():
        for first, second in pairs:
            both = [read_image(path).pixels[None].to(where) for path in (first, second)]
            if both[0].shape != both[1].shape:
                raise SteerError(f"images {first} and {second} differ in size; LPIPS compares pixel by pixel")
            found.append(float(network(*both)))
            bar.advance()
    interval = bootstrap_mean(found) if len(found) >= MIN_PROMPTS else None
    _show("lpips", float(np.mean(found)), as_json, interval=interval, images=len(pairs))


@measure.command()
@click.argument("folder", type=FOLDER)
@_reference("Folder of true masks of the same names.")
@click.option(
    "--labels", type=PLACE, metavar="FILE", help='Colors of labels, as {"sky": [0, 0, 255]}, for color masks.'
)
@_options(batch=False)
def miou(folder: Path, reference: Path, labels: Path | None, as_json: bool) -> None:
    """Mean intersection over union of the masks in FOLDER with the true ones, over all pixels; higher is better.

    Masks hold colors of --labels, or numbers (255: no class). x-mask.png, as steer segment names them, is x.
    """
    import numpy as np

    from steer.evaluate.measure.labels import compared, ious, mask_pairs, mean_iou, over_images, read_labels, read_mask

    pairs = mask_pairs(folder, reference)
    names = None if labels is None else read_labels(labels)
    colors = None if names is None else list(names.values())
    if names is None:
        count = 1 + max(int(m[m != 255].max(initial=0)) for _, path in pairs for m in [read_mask(path, None)])
    else:
        count = len(names)
    with Bar("masks", len(pairs)) as bar:
        tables = []
        for first, second in pairs:
            tables.append(compared(first, second, colors, count))
            bar.advance()
    total = np.sum(tables, axis=0)
    if not total.any():
        raise SteerError(f"no pixel of the masks in {reference} has a class")
    each = dict(zip(names or map(str, range(count)), ious(total).tolist(), strict=True))
    each = {name: value for name, value in each.items() if value == value}
    over = over_images(tables)
    _show("miou", mean_iou(total), as_json, images=len(pairs), labels=each, over_images=over)


@measure.command()
@click.argument("classes", type=PLACE)
@_reference("Table of true classes, or a folder with a subfolder per class.")
@_options(batch=False)
def accuracy(classes: Path, reference: Path, as_json: bool) -> None:
    """Share of right classes in CLASSES: JSON, JSON lines or CSV of file and class, as of steer classify."""
    from steer.evaluate.measure.labels import accuracy as of
    from steer.evaluate.measure.labels import classes_of, read_classes

    interval, value, count = of(read_classes(classes).rows, classes_of(reference))
    _show("accuracy", value, as_json, interval=interval, images=count)


@measure.command()
@click.argument("place", type=PLACE)
@click.option("-n", "lengths", multiple=True, type=click.IntRange(1, 9), help="Words in a run; 1, 2 and 3 by default.")
@_options(batch=False)
def dist(place: Path, lengths: tuple[int, ...], as_json: bool) -> None:
    """Distinct runs of n words (dist-n) of the texts of each prompt in PLACE, averaged over prompts.

    PLACE is a folder that steer wrote texts into, or JSON lines with prompt and text.
    """
    import numpy as np

    from steer.evaluate.measure.texts import distinct, texts_by_prompt
    from steer.evaluate.statistics import MIN_PROMPTS, bootstrap_mean

    groups = texts_by_prompt(place)
    facts = {"prompts": len(groups), "texts": sum(map(len, groups.values()))}
    rows = []
    for n in lengths or (1, 2, 3):
        each = [distinct(texts, n) for texts in groups.values()]
        interval = bootstrap_mean(each) if len(each) >= MIN_PROMPTS else None
        rows.append(_row(f"dist-{n}", float(np.mean(each)), interval, facts))
        if not as_json:
            _show(f"dist-{n}", float(np.mean(each)), False, interval=interval, **facts)
    if as_json:
        put_json(rows)


def _inception(weights: str | None, device: str | None) -> tuple[Any, Any]:
    from steer.evaluate.measure.inception import load_inception
    from steer.models.device import pick_device

    quiet_libraries()
    where = pick_device(device)
    return load_inception(weights, where), where


def _show(name: str, value: float, as_json: bool, *, interval: Interval | None = None, **facts: Any) -> None:
    """Print a figure: as JSON, or with its interval and facts on one line."""
    if as_json:
        put_json(_row(name, value, interval, facts))
        return
    limits = "" if interval is None else f" [{interval.low:.4f}, {interval.high:.4f}]"
    click.echo(f"{name} {value:.4f}{limits} ({', '.join(_told(facts))})")


def _row(name: str, value: float, interval: Interval | None, facts: dict[str, Any]) -> dict[str, Any]:
    limits = {} if interval is None else {"low": interval.low, "high": interval.high}
    plain = {key: vars(fact) if hasattr(fact, "estimate") else fact for key, fact in facts.items()}
    return {"measure": name, "value": value, **limits, **plain}


def _told(facts: dict[str, Any]) -> Sequence[str]:
    shown = {key: fact for key, fact in facts.items() if fact is not None}
    rest = [f"{key} {_number(fact)}" for key, fact in shown.items() if not isinstance(fact, dict)]
    return [*rest, *(f"{name} {value:.3f}" for name, value in shown.get("labels", {}).items())]


def _number(fact: Any) -> str:
    if hasattr(fact, "estimate"):
        return f"{fact.estimate:.4f} [{fact.low:.4f}, {fact.high:.4f}]"
    return f"{fact:.4g}" if isinstance(fact, float) else str(fact)
