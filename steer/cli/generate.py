"""``steer generate``: render prompts, steered or not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from steer.cli.config import RUN_KEYS, default_model, read_toml
from steer.cli.shared import log_option
from steer.errors import SteerError
from steer.options import parse_assignments
from steer.prompt_files import read_prompts
from steer.prompt_rows import parse_size
from steer.prompts import Prompt, as_prompts


@click.command()
@click.argument("prompts", nargs=-1)
@click.option("-f", "--file", help="Prompt file: txt, jsonl, json, csv, tsv or parquet; - reads lines from stdin.")
@click.option("-m", "--model", help="Model: a known name, a folder in diffusers format, or a hub id.")
@click.option(
    "-p", "--plugin", multiple=True, metavar="NAME", help="Method, or ./file.py; repeatable, outermost first."
)
@click.option(
    "-r", "--reward", multiple=True, metavar="EXPR", help="Reward, as in shapes:1+clip:0.5 or ./file.py:name."
)
@click.option("--judge", multiple=True, metavar="EXPR", help="Reward that is reported, never steered by; repeatable.")
@click.option("-o", "option", multiple=True, metavar="PLUGIN.OPTION=VALUE", help="Plugin option; repeatable.")
@click.option("-n", "--particles", type=int, help="Particles a prompt.")
@click.option(
    "--seed", type=int, help="Seed of each prompt's first particle, 0..2^32-1; hashed from the prompt if left out."
)
@click.option("--run-seed", type=int, help="What hashed seeds come from; 0 by default.")
@click.option("--steps", type=int, help="Denoising steps.")
@click.option("--guidance", type=float, metavar="SCALE", help="Classifier-free guidance scale; off at 1 and below.")
@click.option("--eta", type=float, help="Stochasticity, 0..1.")
@click.option("--scheduler", help="ddim, ddpm, euler, euler-a, dpm++, unipc, …")
@click.option("--negative", metavar="TEXT", help="Negative prompt.")
@click.option("--size", metavar="WxH", help="Image size in pixels.")
@click.option("--chunk", type=int, help="Particles a forward; part of the recipe.")
@click.option("--choose", help="Which particles to keep: best, weighted or all.")
@click.option("--baseline/--no-baseline", default=None, help="Also draw the same prompts unsteered, and compare.")
@click.option("--lora", multiple=True, metavar="PATH[:WEIGHT]", help="LoRA to fuse in: file, folder or hub id.")
@click.option("--offload", help="none, model or sequential: keep idle parts off the GPU.")
@click.option("--compile/--no-compile", default=None, help="Compile the denoiser.")
@click.option("--attention", metavar="NAME", help="diffusers' attention backend: native, flash, xformers, …")
@click.option("--vae", multiple=True, metavar="SAVING", help="slicing or tiling: decode in less memory; repeatable.")
@click.option("--preview", metavar="NAME", help="Decoder for rewards on the way: taesd, …, hub id, folder.")
@click.option("--device", help="cpu, cuda, …; CUDA if there is one.")
@click.option("--dtype", help="fp32, bf16 or fp16.")
@click.option("--out", metavar="FOLDER", help="Where to write; outputs/TIME by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Run file (TOML); options override it.")
@log_option
def generate(
    prompts: tuple[str, ...], option: tuple[str, ...], as_json: bool, config: Path | None, **given: Any
) -> None:
    """Render PROMPTS, steered or not.

    Without PROMPTS and --file, the examples that ship are rendered. Images carry their recipe; `steer replay`
    makes one again.
    """
    values = read_toml(config, RUN_KEYS) if config else {}
    values.update({name: _plain(value) for name, value in given.items() if value not in (None, ())})
    if prompts:
        values["prompts"] = list(prompts)
    # what was typed replaces the run file's prompts, whichever way they are given there
    if prompts and given["file"] is None:
        values.pop("file", None)
    elif given["file"] is not None and not prompts:
        values.pop("prompts", None)
    options = _options(values.get("options", {}), option)
    rows = _prompts(values)
    model, source = (values["model"], None) if "model" in values else default_model()
    if source:
        _say(f"model: {model} ({source})")
    out = Path(values.get("out") or Path("outputs") / time.strftime("%Y%m%d-%H%M%S"))
    settings = _settings(values)

    from steer.cli.session import render

    render(
        rows,
        model=model,
        model_options=_model_options(values),
        device=values.get("device"),
        dtype=values.get("dtype"),
        out=out,
        baseline=bool(values.get("baseline")),
        as_json=as_json,
        arguments={
            "methods": values.get("plugin", []),
            "reward": values.get("reward", []),
            "judge": values.get("judge", []),
            "options": options,
            "particles": values.get("particles"),
            "seed": values.get("seed"),
            "run_seed": values.get("run_seed", 0),
            "choose": values.get("choose"),
            **settings,
        },
    )


def examples() -> Path:
    """Return the prompt file that ships: inside the package, or beside it in a source tree."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "data" / "prompts", package.parent / "prompts"):
        if (folder / "shapes.jsonl").is_file():
            return folder / "shapes.jsonl"
    raise FileNotFoundError("the example prompts are missing from the installation")


def _prompts(values: dict[str, Any]) -> list[Prompt]:
    if "prompts" in values and "file" in values:
        raise SteerError("got both prompts and a prompt file; give one of the two")
    if "prompts" in values:
        if values["prompts"] == ["-"]:
            return read_prompts(Path("-"))
        return as_prompts(values["prompts"])
    if "file" in values:
        return read_prompts(Path(values["file"]))
    path = examples()
    rows = read_prompts(path)
    _say(f"prompts: the {len(rows)} examples that ship ({path.name})")
    return rows


def _settings(values: dict[str, Any]) -> dict[str, Any]:
    settings = {
        "steps": values.get("steps"),
        "guidance_scale": values.get("guidance"),
        "eta": values.get("eta"),
        "scheduler": values.get("scheduler"),
        "negative": values.get("negative"),
        "chunk": values.get("chunk"),
    }
    if "size" in values:
        settings["width"], settings["height"] = parse_size(values["size"])
    return settings


def _model_options(values: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``ModelOptions``; the class itself waits for torch."""
    return {
        "loras": values.get("lora", []),
        "offload": values.get("offload", "none"),
        "compile": bool(values.get("compile")),
        "attention": values.get("attention"),
        "vae": tuple(values.get("vae", ())),
        "preview": values.get("preview"),
    }


def _options(from_file: dict[str, Any], assignments: Sequence[str]) -> dict[str, dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {}
    for owner, table in from_file.items():
        if not isinstance(table, dict):
            raise SteerError(f"config: options.{owner} is {table!r}, expected a table [options.{owner}]")
        merged[owner] = dict(table)
    for owner, table in parse_assignments(assignments).items():
        merged.setdefault(owner, {}).update(table)
    return merged


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _say(text: str) -> None:
    click.echo(text, err=True)
