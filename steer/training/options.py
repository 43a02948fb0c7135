"""The command-line options that all trainings share."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from steer.errors import SteerError
from steer.training.recipe import Watch

F = Callable[..., Any]


LAUNCHED = "ACCELERATE_MIXED_PRECISION"
"""Where ``accelerate launch --mixed_precision`` leaves its word."""


@dataclass(frozen=True)
class TrainingOptions:
    """The values of the shared options; ``None`` leaves a field to the training."""

    out: Path
    resume: bool
    steps: int | None
    batch: int | None
    rate: float | None
    accumulate: int
    ema: float | None
    precision: str
    adam_bits: int
    seed: int
    device: str | None
    threads: int | None
    shard: bool
    save_every: int
    sheet_every: int
    log_every: int

    @property
    def recipe(self) -> dict[str, Any]:
        """The fields of a :class:`TrainingRecipe` that were given, by name; the machine decides the precision."""
        names = ("steps", "batch", "rate", "accumulate", "ema", "adam_bits", "seed")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def watch(self) -> Watch:
        """Steps between checkpoints, sheets and rows of the log."""
        return Watch(self.save_every, self.sheet_every, self.log_every)


def positive(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Return the value of an option if it is a finite number above 0.

    Raises:
        SteerError: otherwise.
    """
    if value is not None and not 0 < value < math.inf:
        raise SteerError(f"{parameter.opts[0]} {value:g}: expected a number above 0")
    return value


def training_options(
    *,
    out: str | None = None,
    steps: int | None = None,
    batch: int | None = None,
    rate: float | None = None,
    ema: float | None = None,
    precision: str = "no",
    device: str | None = None,
    threads: int | None = None,
    own: str = "the recipe's",
) -> Callable[[F], F]:
    """Return a decorator that adds the shared options, with a training's defaults, to a click command.

    The command gets them as one :class:`TrainingOptions`, its first argument.

    Args:
        out: default folder; ``None`` makes ``--out`` required.
        steps, batch, rate, ema: ``None`` leaves them to the training.
        precision: default mixed precision.
        device: ``None`` leaves it to accelerate.
        threads: CPU threads; ``None`` leaves them to torch.
        own: the default in help if the training decides it.
    """
    every, folder = click.IntRange(1), click.Path(file_okay=False, path_type=Path)
    precisions = click.Choice(("auto", "no", "bf16", "fp16"))
    options: list[Callable[[F], F]] = [
        option("--out", folder, out, "Folder of the run.", required=out is None),
        click.option("--resume", is_flag=True, help="Resume the run in --out."),
        option("--steps", every, steps, "Total steps, those before --resume included.", own),
        option("--batch", every, batch, "Rows per forward pass and process.", own),
        option("--rate", float, rate, "Peak learning rate.", own, callback=positive),
        option("--accumulate", every, 1, "Batches per update."),
        option("--ema", click.FloatRange(0, 1, max_open=True), ema, "Decay of the averaged weights per step.", own),
        option(
            "--precision",
            precisions,
            precision,
            "Mixed precision; auto is bf16 if the device computes in it. accelerate launch sets it too.",
            envvar=LAUNCHED,
        ),
        click.option(
            "--adam-bits",
            type=click.Choice(("8", "32")),
            default="32",
            show_default=True,
            callback=lambda _, __, value: int(value),
            help="Bits of the optimizer's averages; 8 needs bitsandbytes.",
        ),
        option("--seed", click.IntRange(0, 2**32 - 1), 0, "Seed of weights, data and noise."),
        option("--device", str, device, "cpu, cuda, …", "what accelerate chooses", metavar="DEVICE"),
        option("--threads", every, threads, "CPU threads.", "torch's"),
        click.option("--shard", is_flag=True, help="Split the networks over the processes of accelerate launch."),
        option("--save-every", every, Watch.save_every, "Steps between checkpoints."),
        option("--sheet-every", every, Watch.sheet_every, "Steps between measurements and sample sheets."),
        option("--log-every", every, Watch.log_every, "Steps between rows of the log."),
    ]

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def collected(**values: Any) -> Any:
            source = click.get_current_context().get_parameter_source("precision")
            if source is ParameterSource.ENVIRONMENT and values["precision"] == "no":
                values["precision"] = precision  # the launcher says so too if nobody asked for anything
            common = TrainingOptions(**{field.name: values.pop(field.name) for field in fields(TrainingOptions)})
            if common.shard and common.adam_bits == 8:
                raise SteerError("--shard does not go with --adam-bits 8, whose averages cannot be split; use 32")
            return command(common, **values)

        decorated: F = collected
        for add in reversed(options):
            decorated = add(decorated)
        return decorated

    return decorate


def option(flag: str, kind: Any, default: Any, text: str, unset: str = "", **more: Any) -> Callable[[F], F]:
    """Return a click option whose help shows its default, even if that is not a value.

    Args:
        flag: such as ``"--rate"``, or ``"--on/--off"``.
        kind: its type.
        default: its value if it is not given.
        text: its help.
        unset: the effect of leaving it out, for a default of ``None``.
        more: for :func:`click.option`.
    """
    if default is None and unset:
        text = f"{text}  [default: {unset}]"
    return click.option(flag, type=kind, default=default, show_default=default is not None, help=text, **more)
