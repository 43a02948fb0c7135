"""Options and values that ``steer generate`` and ``steer render`` share: what decides an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from steer.errors import SteerError
from steer.prompts.rows import parse_size
from steer.settings.options import parse_assignments

_OPTIONS = (
    click.option("-m", "--model", help="Model: a known name, a folder in diffusers format, or a hub id."),
    click.option(
        "-p", "--plugin", multiple=True, metavar="NAME", help="Method, or ./file.py; repeatable, outermost first."
    ),
    click.option(
        "-r", "--reward", multiple=True, metavar="EXPR", help="Reward, as in shapes:1+clip:0.5 or ./file.py:name."
    ),
    click.option("--judge", multiple=True, metavar="EXPR", help="Reward that is only reported; repeatable."),
    click.option("-o", "option", multiple=True, metavar="PLUGIN.OPTION=VALUE", help="Plugin option; repeatable."),
    click.option("-n", "--particles", type=int, help="Particles a prompt."),
    click.option(
        "--seed", type=int, help="Seed of each prompt's first particle, 0..2^32-1; hashed from the prompt if left out."
    ),
    click.option("--run-seed", type=int, help="What hashed seeds come from; 0 by default."),
    click.option("--steps", type=int, help="Denoising steps."),
    click.option("--guidance", type=float, metavar="SCALE", help="Classifier-free guidance; off at 1 and below."),
    click.option("--true-cfg", type=float, metavar="SCALE", help="Guidance where --guidance is an input (Flux)."),
    click.option("--eta", type=float, help="Stochasticity, 0..1."),
    click.option("--scheduler", help="ddim, ddpm, euler, euler-a, dpm++, unipc, …"),
    click.option("--negative", metavar="TEXT", help="Negative prompt."),
    click.option("--length", type=int, metavar="TOKENS", help="Tokens of a text; the model's most by default."),
    click.option("--temperature", type=float, help="Of a text's tokens; 1 leaves the model's distributions alone."),
    click.option("--size", metavar="WxH", help="Image size in pixels."),
    click.option("--chunk", type=int, help="Particles a forward; part of the recipe."),
    click.option("--choose", help="Which particles to keep: best, weighted or all."),
    click.option("--lora", multiple=True, metavar="PATH[:WEIGHT]", help="LoRA to fuse in: file, folder or hub id."),
    click.option("--offload", help="none, model or sequential: keep idle parts off the GPU."),
    click.option("--compile/--no-compile", default=None, help="Compile the denoiser."),
    click.option("--attention", metavar="NAME", help="diffusers' attention backend: native, flash, xformers, …"),
    click.option("--vae", multiple=True, metavar="SAVING", help="slicing or tiling: decode in less memory."),
    click.option("--preview", metavar="NAME", help="Decoder for rewards on the way: taesd, …, hub id, folder."),
    click.option("--device", help="cpu, cuda, …; CUDA if there is one."),
    click.option("--dtype", help="fp32, bf16 or fp16."),
)

SAMPLING_KEYS: dict[str, Any] = {
    "model": str, "plugin": list, "reward": list, "judge": list, "options": dict, "particles": int, "seed": int,
    "run_seed": int, "steps": int, "guidance": (int, float), "true_cfg": (int, float), "eta": (int, float),
    "scheduler": str, "negative": str, "size": str, "chunk": int, "choose": str, "device": str, "dtype": str,
    "length": int, "temperature": (int, float),
    "lora": list, "offload": str, "compile": bool, "attention": str, "vae": list, "preview": str,
}  # fmt: skip
"""Their keys in a run file."""


def sampling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that decide an image."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def gathered(from_file: Mapping[str, Any], given: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Return the values of a run file, overridden by those that were typed.

    Args:
        from_file: a run file's values.
        given: options as click gives them; those left out are ``None`` or empty.
        assignments: of plugin options.
    """
    values = dict(from_file)
    values |= {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in given.items()
        if value is not None and value != ()
    }
    options: dict[str, dict[str, Any]] = {}
    for owner, table in values.pop("options", {}).items():
        if not isinstance(table, dict):
            raise SteerError(f"config: options.{owner} is {table!r}, expected a table [options.{owner}]")
        options[owner] = dict(table)
    for owner, typed in parse_assignments(assignments).items():
        options.setdefault(owner, {}).update(typed)
    return {**values, "options": options}


def arguments_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``Sampler.stream`` that values stand for, but for the seed."""
    settings = {
        "steps": values.get("steps"),
        "guidance_scale": values.get("guidance"),
        "true_cfg_scale": values.get("true_cfg"),
        "eta": values.get("eta"),
        "scheduler": values.get("scheduler"),
        "negative": values.get("negative"),
        "length": values.get("length"),
        "temperature": values.get("temperature"),
        "chunk": values.get("chunk"),
    }
    if "size" in values:
        settings["width"], settings["height"] = parse_size(values["size"])
    return {
        "methods": values.get("plugin", []),
        "reward": values.get("reward", []),
        "judge": values.get("judge", []),
        "options": values["options"],
        "particles": values.get("particles"),
        "run_seed": values.get("run_seed", 0),
        "choose": values.get("choose"),
        **settings,
    }


def model_options_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``ModelOptions``, LoRAs as typed; the class itself waits for torch."""
    return {
        "loras": values.get("lora", []),
        "offload": values.get("offload", "none"),
        "compile": bool(values.get("compile")),
        "attention": values.get("attention"),
        "vae": tuple(values.get("vae", ())),
        "preview": values.get("preview"),
    }
