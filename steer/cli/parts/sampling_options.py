"""The options of model, run and steering that commands share, and the ``SamplingRequest`` made from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from steer.cli.parts.option_groups import Decorator, option, options, setting_option
from steer.cli.parts.streams import reserve
from steer.errors import SteerError
from steer.prompts.prompt import is_unicode
from steer.settings.options import parse_assignments
from steer.settings.run_settings import TYPED, RunSettings

if TYPE_CHECKING:
    from steer.sampling.request import SamplingRequest

INPUT, MODEL, SAMPLING, STEERING, OUTPUT = "Input", "Model", "Sampling", "Steering", "Output"
DRAFT_STEPS = 10
"""Steps of a draft: enough for an ODE sampler to show what the finished sample will be."""
"""Groups of options in help."""

model_options: Decorator = options(
    option(
        "-m", "--model", group=MODEL, help="Model: a known name, a folder in diffusers format, a file, or a hub id."
    ),
    option(
        "--base",
        metavar="ID|FOLDER",
        group=MODEL,
        help="Model from which a --model in one file takes its configurations, and the parts that it lacks.",
    ),
    option(
        "--pipeline",
        metavar="CLASS",
        group=MODEL,
        help="Class of diffusers to load the model into and to call, such as StableDiffusionInpaintPipeline.",
    ),
    option("--vae", metavar="ID|FOLDER|FILE", group=MODEL, help="Another autoencoder."),
    option(
        "--part",
        multiple=True,
        metavar="NAME=ID|FOLDER",
        group=MODEL,
        help="Part that the model lacks, or another one than its own, such as controlnet=ORG/NAME; repeatable.",
    ),
    option("--device", group=MODEL, help="cpu, cuda, …; CUDA if there is one."),
    option("--dtype", metavar="fp32|bf16|fp16", group=MODEL, help="Precision of the weights."),
    option(
        "--lora",
        multiple=True,
        metavar="PATH[:WEIGHT[:TEXT]]",
        group=MODEL,
        help="LoRA: file, folder or ORG/NAME[@REVISION][/FILE]; its weights in denoiser and text encoders; repeatable.",
    ),
    option(
        "--embedding",
        multiple=True,
        metavar="FILE[:TOKEN]",
        group=MODEL,
        help="Textual inversion: a file, and its word in prompts (the file's name by default); repeatable.",
    ),
    option(
        "--quantize",
        metavar="nf4|int8|fp8",
        group=MODEL,
        help="Weights of the denoiser and of large text encoders in 4 or 8 bits.",
    ),
    option("--variant", metavar="NAME", group=MODEL, help="Variant of the weights, such as fp16."),
    option("--revision", metavar="NAME", group=MODEL, help="Branch, tag or commit of a model of the hub."),
    option(
        "--offload",
        metavar="none|model|group|sequential",
        group=MODEL,
        help="Keep idle parts of the model off the GPU.",
    ),
    option("--compile/--no-compile", default=None, group=MODEL, help="Compile the denoiser."),
    option(
        "--channels-last/--no-channels-last",
        default=None,
        group=MODEL,
        help="Lay convolutions out channels last, often faster.",
    ),
    option("--attention", metavar="NAME", group=MODEL, help="diffusers' attention backend: native, flash, xformers, …"),
    option(
        "--vae-memory",
        multiple=True,
        metavar="slicing|tiling",
        group=MODEL,
        help="Decode in less memory; repeatable.",
    ),
    option(
        "--preview",
        metavar="NAME",
        group=MODEL,
        help="Decoder for rewards before the last step: taesd, …, own (the model's), a hub id or a folder.",
    ),
)
"""The model, and how it is loaded."""

run_options: Decorator = options(
    *map(setting_option, TYPED.values()),
    option(
        "--seed",
        type=int,
        group=SAMPLING,
        help="Seed of each prompt's first particle, 0..2^32-1; by default a hash of the prompt and the run seed.",
    ),
    option("--run-seed", type=int, group=SAMPLING, help="Run seed, from which hashed seeds derive; 0 by default."),
)
"""The settings of the run, and its seeds."""

replicates_option: Decorator = option(
    "--replicates", type=int, metavar="N", group=SAMPLING, help="Independent samples per prompt; 1 by default."
)

events_option: Decorator = option(
    "--json",
    "as_json",
    is_flag=True,
    callback=reserve,
    group=OUTPUT,
    in_file=False,
    help="Print events as JSON lines on stdout.",
)

draft_option: Decorator = option(
    "--draft",
    type=int,
    metavar="N",
    group=SAMPLING,
    in_file=False,
    help=f"N cheap samples per prompt to pick from, in {DRAFT_STEPS} steps unless --steps says otherwise; steer finish "
    "renders the picked ones in full.",
)

steering_options: Decorator = options(
    option(
        "-p",
        "--plugin",
        multiple=True,
        metavar="NAME",
        group=STEERING,
        help="Method, or ./file.py; repeatable, outermost first.",
    ),
    option(
        "-r",
        "--reward",
        multiple=True,
        metavar="EXPR",
        group=STEERING,
        help="Reward, as in shapes:1+clip:0.5 or ./file.py:name.",
    ),
    option("--judge", multiple=True, metavar="EXPR", group=STEERING, help="Reward that is only reported; repeatable."),
    option(
        "-o",
        "option",
        multiple=True,
        metavar="PLUGIN.OPTION=VALUE",
        in_file=False,
        group=STEERING,
        help="Plugin option; repeatable.",
    ),
    option("--choose", metavar="best|weighted|all", group=STEERING, help="Which particles to keep."),
)
"""Methods, rewards, judges, and the choice of particles."""

sampling_options: Decorator = options(model_options, run_options, steering_options)
"""Everything that decides a sample, except the prompt."""

PLUGIN_OPTIONS: Mapping[str, Any] = {"options": dict}
"""The key of a run file for the options that ``-o`` sets: one table ``[options.PLUGIN]`` per plugin."""


def gathered(from_file: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a run file, overridden by those that were typed.

    Args:
        from_file: a run file's values.
        given: options as click gives them; those left out are ``None`` or empty.

    Raises:
        SteerError: for options that are no table, given twice, or not Unicode, which recipes are.
    """
    values = dict(from_file)
    values |= {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in given.items()
        if value is not None and value != ()
    }
    for name, value in values.items():
        for text in value if isinstance(value, list) else [value]:
            if name != "file" and isinstance(text, str) and not is_unicode(text):
                raise SteerError(f"{name} {text[:60]!r} is not Unicode; type or name it in UTF-8")
    tables: dict[str, dict[str, Any]] = {}
    for owner, table in values.pop("options", {}).items():
        if not isinstance(table, dict):
            raise SteerError(f"config: options.{owner} is {table!r}, expected a table [options.{owner}]")
        tables[owner] = dict(table)
    for owner, typed in parse_assignments(values.pop("option", [])).items():
        tables.setdefault(owner, {}).update(typed)
    return {**values, "options": tables}


def as_draft(values: dict[str, Any], count: int | None) -> None:
    """Set what ``--draft`` means among a run's values.

    Raises:
        SteerError: if they say something else.
    """
    if count is None:
        return
    if values.get("replicates", count) != count:
        raise SteerError(f"got --draft {count} and --replicates {values['replicates']}, which mean the same; drop one")
    values["replicates"] = count
    values.setdefault("steps", DRAFT_STEPS)


def request_of(values: Mapping[str, Any]) -> SamplingRequest:
    """Return the request that options and a run file make, with every name checked.

    Raises:
        SteerError: for every mistake that can be found before the model is loaded, which may take minutes.
    """
    settings = RunSettings.typed(values)

    from steer.models import embeddings, loras, parts
    from steer.models.options import ModelOptions
    from steer.sampling.request import SamplingRequest

    request = SamplingRequest(
        model=values["model"],
        model_options=ModelOptions(
            loras=loras.parse(values.get("lora", ())),
            embeddings=embeddings.parse(values.get("embedding", ())),
            offload=values.get("offload") or "none",
            compile=bool(values.get("compile")),
            channels_last=bool(values.get("channels_last")),
            attention=values.get("attention"),
            vae_memory=tuple(values.get("vae_memory", ())),
            preview=values.get("preview"),
            variant=values.get("variant"),
            revision=values.get("revision"),
            base=values.get("base"),
            quantize=values.get("quantize"),
            vae=values.get("vae"),
            pipeline=values.get("pipeline"),
            parts=parts.parse(values.get("part", ())),
        ),
        device=values.get("device"),
        dtype=values.get("dtype"),
        methods=tuple(values.get("plugin", ())),
        reward=tuple(values.get("reward", ())),
        judge=tuple(values.get("judge", ())),
        options=values.get("options", {}),
        settings=settings,
        seed=values.get("seed"),
        run_seed=values.get("run_seed", 0),
        choose=values.get("choose"),
    )
    request.check()
    return request
