"""Predicted memory of full-size runs on a GPU, written into docs/performance.md. Needs no GPU, no weights, no network.

    PYTHONPATH=tests python benchmarks/memory.py [--only SCENARIO …] [--check]

Full-size models with the published configurations run on a device whose tensors have sizes and no content
(``tests/support/memory_model.py``), through the product's own code: text encoding, denoising, decoding, scoring and,
for CARINOX, the way back. The exit code is 1 if a scenario takes more than a GPU of 24 GB has. With ``--check``, which
writes nothing, it is 1 too if the page says something else.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import torch
from diffusers import EulerAncestralDiscreteScheduler, QwenImagePipeline
from full_size import (
    flux_schnell,
    in_nf4,
    qwen_image,
    sana,
    sd15,
    sd35_large,
    sdxl,
    sdxl_unet,
    z_image_turbo,
)
from support.memory_model import modeled
from support.reward_models import clip_flant5_config, clip_flant5_folder
from torch import Tensor, nn

from steer import Prompt, Sampler
from steer.models.load import load_model
from steer.models.options import modules_of
from steer.models.placement import Placed
from steer.models.room import bytes_of, fits
from steer.registry.plugins import manager
from steer.rewards.combinations import WeightedSum
from steer.sampling import gradients

GB = 1e9
CARD = 24 * 10**9
"""Room of the GPU."""
MOST = 23.0
"""GB that a scenario may take: CUDA's context and fragments take some."""
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- memory: made by benchmarks/memory.py -->", "<!-- memory: end -->"
PHASES = ("encode", "denoise", "decode", "reward", "gradient")


# ---- rewards at full size -------------------------------------------------------------------------------------


def files_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Write what rewards and ``dmd2`` read besides weights; return their options."""
    for name in ("hps.pt", "ImageReward.pt", "blip.pth", "vqa/pytorch_model.bin", "student.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", *(f"w{i}" for i in range(6, 30522))]
    words[2748], words[2053] = "yes", "no"
    (folder / "vocab.txt").write_text("\n".join(words))
    clip_flant5_folder(folder / "vqa")
    config = {**clip_flant5_config(), "vocab_size": 32128, "d_model": 2048, "d_kv": 64, "d_ff": 5120,
              "num_layers": 24, "num_heads": 32, "mm_hidden_size": 1024}  # fmt: skip
    del config["vision_config"]  # ViT-L-14 at 336 px
    (folder / "vqa" / "config.json").write_text(json.dumps(config))
    vocabulary = str(folder / "vocab.txt")
    return {
        "hps": {"weights": str(folder / "hps.pt")},
        "imagereward": {"weights": str(folder / "ImageReward.pt"), "vocabulary": vocabulary},
        "da": {"weights": str(folder / "blip.pth"), "vocabulary": vocabulary},
        "vqa": {"model": str(folder / "vqa")},
        "dmd2": {"weights": str(folder / "student.safetensors")},
    }


def placed(
    model: nn.Module, file: Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu", **_: Any
) -> None:
    """Put a reward's model, which was made without content, where its weights would be."""
    model.to(device, dtype).eval().requires_grad_(False)


def first_row(differentiate: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the gradient of a reward for the first row, in place of the others; on a GPU they go one at a time, and
    take the same."""

    def call(name: str, loss: Any, pixels: Tensor, prompts: Any, step: int | None) -> tuple[Tensor, Tensor]:
        values, grads = differentiate(name, loss, pixels[:1], prompts[:1], step)
        return values.repeat(len(pixels)), grads.repeat(len(pixels), 1, 1, 1)

    return call


def student_file(file: Path) -> dict[str, Tensor]:
    """Return the tensors of the published student for SDXL."""
    with torch.device("meta"):
        return sdxl_unet().half().state_dict()


def student_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Return their shapes."""
    return {name: tuple(tensor.shape) for name, tensor in student_file(file).items()}


def moved(modules: list[nn.Module], device: torch.device) -> None:
    """Move modules as the product does; those on the CPU have no content either."""
    for module in modules:
        module.to("meta" if device.type == "cpu" else device)


# ---- scenarios ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A run whose memory is predicted.

    Attributes:
        name: in the table.
        make: returns the pipeline, in fp32 on the meta device.
        settings: of the run; three steps stand for all, for none takes more than another.
        methods: of the run.
        reward: of the run.
        options: of methods.
    """

    name: str
    make: Callable[[], Any]
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    methods: tuple[Any, ...] = ("fk",)
    reward: str = "hps"
    options: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)


FK = {"particles": 4, "steps": 3}
SCENARIOS = (
    Scenario("SD 1.5, 512 px, FK 4, hps", sd15, FK),
    Scenario("SDXL, 1024 px, FK 4, hps", sdxl, FK),
    Scenario("SDXL + dmd2, 1024 px, FK 4, hps", sdxl, {"particles": 4}, methods=("dmd2", "fk")),
    Scenario("SD3.5-large, 1024 px, FK 4, hps", sd35_large, FK),
    Scenario("Z-Image-Turbo, 1024 px, FK 4, hps", z_image_turbo, {**FK, "guidance_scale": 0.0}),
    Scenario("Sana 1.6B, 1024 px, FK 4, hps", sana, FK),
    Scenario("Flux.1-schnell, nf4, 1024 px, FK 4, hps", lambda: in_nf4(flux_schnell()), FK),
    Scenario("Qwen-Image, nf4, 1024 px, FK 4, hps", lambda: in_nf4(qwen_image()), FK),
    Scenario(
        "sdxl-turbo, 512 px, carinox, 5 seeds, hps+imagereward+da+vqa",
        lambda: sdxl(EulerAncestralDiscreteScheduler),
        {"steps": 1, "guidance_scale": 0.0, "width": 512, "height": 512},
        methods=("carinox",), reward="hps+imagereward+da+vqa",
        options={"carinox": {"seeds": 5, "iterations": 1, "weights": "uniform"}},
    ),
)  # fmt: skip


def predict(scenario: Scenario) -> dict[str, float]:
    """Return GB: of all weights, at the peak of each phase with all that is live then, and at the run's peak."""
    with torch.device("meta"):
        pipe = scenario.make()
    backbone = load_model(pipe, manager()).backbone
    precisions = type(backbone).precision(backbone.half)
    for name, part in modules_of(pipe).items():
        one = precisions.get(name, precisions.get("default")) if isinstance(precisions, dict) else precisions
        part.to(one).eval().requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder, modeled() as memory, ExitStack() as stack:
        stack.enter_context(patch("steer_rewards.checkpoints.fill", placed))
        stack.enter_context(patch("steer.sampling.shared_memory.room_of", lambda _: CARD))
        for module in ("steer.models.room", "steer.rewards.reward"):
            stack.enter_context(patch(f"{module}.moved", moved))
        stack.enter_context(patch.object(Placed, "brought_to", torch.device("meta")))  # as if it were the CPU
        stack.enter_context(patch("steer_dmd2.loading._read", student_file))
        stack.enter_context(patch("steer_dmd2.loading._shapes", student_shapes))
        # a mask without content has no length: a text fills its encoding
        stack.enter_context(patch.object(QwenImagePipeline, "_extract_masked_hidden", lambda _, hidden, __: [*hidden]))
        model = bytes_of(modules_of(pipe).values())
        crowded = not fits(model, CARD)
        if not crowded:
            pipe.to("cuda")
        sampler = Sampler(pipe)
        sampler.backbone._lent = None  # it is ours, as if it had been loaded
        sampler.backbone.reside(torch.device("cuda", 0), crowded=crowded)
        for phase, owner, method in (
            ("encode", type(backbone), "encode_one"),
            ("denoise", type(backbone), "predict"),
            ("decode", type(backbone), "decode"),
            ("reward", WeightedSum, "__call__"),
            ("gradient", gradients, "_back"),
            ("reward", gradients, "_differentiate"),
        ):
            stack.enter_context(patch.object(owner, method, memory.watched(phase, getattr(owner, method))))
        stack.enter_context(patch.object(gradients, "_differentiate", first_row(gradients._differentiate)))
        files = files_of(Path(folder))
        options = {name: files[name] for name in (*scenario.reward.split("+"), *scenario.methods) if name in files}
        sampler.generate(
            [Prompt("a red circle and a blue square", seed=1)], methods=list(scenario.methods),
            reward=scenario.reward, options={**options, **scenario.options}, **scenario.settings,
        )  # fmt: skip
        rows = {"weights": model, **memory.peaks, "peak": memory.peak}
    return {name: size / GB for name, size in rows.items()}


def row(scenario: Scenario, found: dict[str, float]) -> str:
    """Return a scenario's predictions as a row of the table."""
    cells = [f"{found[name]:.1f}" if name in found else "" for name in ("weights", *PHASES, "peak")]
    return f"| {scenario.name} | {' | '.join(cells)} |"


def same(one: str, other: str) -> bool:
    """Whether two rows say the same, but for the last digit: what is freed when differs a little between machines."""
    pairs = [(a.strip(), b.strip()) for a, b in zip(one.split("|"), other.split("|"), strict=False)]
    numbers = [(float(a), float(b)) for a, b in pairs[2:] if a and b]
    return (
        one.count("|") == other.count("|")
        and all(bool(a) == bool(b) for a, b in pairs)
        and all(abs(a - b) < 0.15 for a, b in numbers)
    )


def rows_of_page() -> dict[str, str]:
    """Return the rows of the table in docs/performance.md by scenario."""
    table = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    return {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("|")}


@click.command()
@click.option("--only", "words", multiple=True, help="Predict the scenarios whose name holds this; repeatable.")
@click.option("--check", is_flag=True, help="Write nothing; the exit code is 1 if the page says something else.")
def main(words: tuple[str, ...], check: bool) -> None:
    """Predict the memory of every scenario and write the table into docs/performance.md."""
    rows, wrong = rows_of_page(), []
    for scenario in SCENARIOS:
        if words and not any(word in scenario.name for word in words):
            continue
        found = predict(scenario)
        line = row(scenario, found)
        click.echo(line)
        if found["peak"] > MOST:
            wrong.append(f"{scenario.name} takes {found['peak']:.1f} GB, more than {MOST:g}")
        if check and not same(rows.get(scenario.name, ""), line):
            wrong.append(f"{PAGE.name} says {rows.get(scenario.name, 'nothing')!r}")
        rows[scenario.name] = line
    for what in wrong:
        click.echo(what, err=True)
    if not check:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        columns = ("scenario", "weights", *PHASES, "peak")
        head = [f"| {' | '.join(columns)} |", f"|---{'|---:' * (len(columns) - 1)}|"]
        lines = [*head, *(rows[scenario.name] for scenario in SCENARIOS if scenario.name in rows)]
        PAGE.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
