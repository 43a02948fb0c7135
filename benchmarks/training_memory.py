"""Predicted memory of distillations at full size on a GPU, written into docs/dmd2.md. Needs no GPU and no weights.

    PYTHONPATH=tests python benchmarks/training_memory.py [--only WORD …]

Full-size models with the published configurations run on a device whose tensors have sizes and no content
(``tests/support/memory_model.py``), through the product's own training: one step of distribution matching, which
updates the student once and the critic once, in bf16 with the GAN.

Split over GPUs (``--shard``), each holds its share of weights, gradients and Adam's averages, as much of the rest as
alone, and what it gathers: of each network two blocks at a time and what is in no block. That is an upper bound:
autocast makes no copies of gathered weights.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import torch
import torch.nn.functional as F
from full_size import sd15, sdxl
from memory import moved
from support.memory_model import modeled
from torch import Tensor

from steer.models.options import modules_of
from steer.registry.plugins import manager
from steer.training import loop, start
from steer.training.sharding import blocks_of
from steer_dmd2.train.data import Dataset
from steer_dmd2.train.recipe import Recipe
from steer_dmd2.train.task import DMD2Task
from steer_dmd2.train.teacher import Teacher

GB = 1e9
GPUS = 4
"""Over which networks are split in the table's last column."""
PAGE = Path(__file__).parents[1] / "docs" / "dmd2.md"
BEGIN, END = "<!-- memory: made by benchmarks/training_memory.py -->", "<!-- memory: end -->"


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A distillation whose memory is predicted.

    Attributes:
        name: in the table.
        make: returns the teacher's pipeline on the meta device.
        changes: of the recipe.
    """

    name: str
    make: Callable[[], Any]
    changes: dict[str, Any]


SCENARIOS = (
    Scenario("SDXL, all weights, batch 4, Adam in 8 bits", sdxl, {"batch": 4, "adam_bits": 8}),
    Scenario("SDXL, all weights, batch 4", sdxl, {"batch": 4}),
    Scenario("SDXL, LoRA 64 for student and critic, batch 4", sdxl, {"batch": 4, "lora": 64, "critic_lora": 64}),
    Scenario("SD 1.5, LoRA 64 for student and critic, batch 4", sd15, {"batch": 4, "lora": 64, "critic_lora": 64}),
    Scenario("SD 1.5, all weights, batch 4", sd15, {"batch": 4}),
)


class EightBits(torch.optim.Optimizer):
    """The memory of an AdamW whose averages take a byte each, with a scale for 256 of them; bitsandbytes' own reads
    weights, and these have no content."""

    def __init__(self, groups: Any, lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas})

    def step(self, closure: Any = None) -> None:
        """Make the averages of all weights that have a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None and not self.state[weight]:
                    count = weight.numel()
                    like = {"device": weight.device}
                    for name in ("1", "2"):
                        self.state[weight][f"state{name}"] = torch.empty(count, dtype=torch.uint8, **like)
                        self.state[weight][f"absmax{name}"] = torch.empty(-(-count // 256), **like)


@contextmanager
def mixed() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Have torch's autocast to bf16 for a device that it does not know; yields what enters it.

    Products are in bf16 and norms in fp32. Casts of trained weights are kept until the context ends, as autocast does;
    where activations are computed again, outside of it, they are not.
    """
    kept: dict[tuple[int, bool], Tensor] | None = None

    @contextmanager
    def autocast() -> Iterator[None]:
        nonlocal kept
        kept = {}
        try:
            yield
        finally:
            kept = None

    def cast(value: Any, dtype: torch.dtype) -> Any:
        if not isinstance(value, Tensor) or value.dtype == dtype or not value.is_floating_point():
            return value
        if kept is None or not (value.is_leaf and value.requires_grad):
            return value.to(dtype)
        key = id(value), torch.is_grad_enabled()
        if key not in kept:
            kept[key] = value.to(dtype)
        return kept[key]

    def casting(function: Callable[..., Tensor], dtype: torch.dtype) -> Callable[..., Tensor]:
        def call(*args: Any, **kwargs: Any) -> Tensor:
            args = tuple(cast(value, dtype) for value in args)
            return function(*args, **{name: cast(value, dtype) for name, value in kwargs.items()})

        return call

    with ExitStack() as stack:
        for names, dtype in ((PRODUCTS, torch.bfloat16), (NORMS, torch.float32)):
            for name in names:
                stack.enter_context(patch.object(F, name, casting(getattr(F, name), dtype)))
        yield autocast


PRODUCTS = ("linear", "conv2d", "scaled_dot_product_attention")
NORMS = ("group_norm", "layer_norm", "mse_loss")


@contextmanager
def eight_bits() -> Iterator[None]:
    """Have :class:`EightBits` in the place of bitsandbytes'."""
    module = type("optim", (), {"AdamW8bit": EightBits})
    with patch("steer.training.task._bitsandbytes", lambda: module):
        yield


def predict(scenario: Scenario) -> dict[str, float | None]:
    """Return GB: of the weights of teacher, student and critic, between steps and at the peak of two; that of each of
    several GPUs, which 8-bit Adam does not go with."""
    with torch.device("meta"):
        pipe = scenario.make()
    for part in modules_of(pipe).values():
        part.to(torch.bfloat16).eval().requires_grad_(False)
    recipe = Recipe(
        teacher="full", data="captions", timesteps=(999, 749, 499, 249), guidance_scale=7.0, steps=2, ratio=1,
        precision="bf16", **scenario.changes,
    )  # fmt: skip
    with modeled() as memory, eight_bits(), ExitStack() as stack:
        stack.enter_context(patch("steer.models.room.moved", moved))
        stack.enter_context(patch("steer.training.task.begun_average", lambda *_: {}))  # the CPU's, and not counted
        stack.enter_context(patch("steer.training.machine.pick_device", torch.device))
        pipe.to("cuda")
        machine = start("no", "cuda")
        machine.autocast = stack.enter_context(mixed())
        loaded = _loaded(pipe)
        stack.enter_context(patch("steer_dmd2.train.teacher.load_model", lambda *_, **__: loaded))
        teacher = Teacher("full", manager(), device="cuda", dtype="bf16")
        captions = [f"a photo of {number} circles" for number in range(4)]
        latents = torch.zeros(4, *teacher.shape)
        teacher.encode_first(captions)
        task = DMD2Task(recipe, teacher, Dataset(captions, latents, latents), machine)
        weights = memory.now
        for step in range(2):
            loop._step(task, step, recipe, machine)
        gc.collect()
        split = memory.peak - _split_bytes(task) * (GPUS - 1) // GPUS + _gathered_bytes(task)
        return {
            "weights": weights / GB,
            "between steps": memory.now / GB,
            "peak": memory.peak / GB,
            "split": None if recipe.adam_bits == 8 else split / GB,
        }


def _networks(task: DMD2Task) -> list[torch.nn.Module]:
    return [*task.teacher.backbone.denoisers.values(), task.objectives.head]


def _gathered_bytes(task: DMD2Task) -> int:
    """Return the bytes of gathered weights, in bf16, and of the trained ones' gradients, in bf16 and again in fp32."""
    total = 0
    for network in _networks(task):
        seen: set[torch.nn.Parameter] = set()
        sizes = []
        for module in (*blocks_of(network), network):
            own = set(module.parameters()) - seen
            seen |= own
            sizes.append(sum(weight.numel() * (8 if weight.requires_grad else 2) for weight in own))
        *blocks, rest = sizes
        total += rest + 2 * max(blocks, default=0)
    return total


def _split_bytes(task: DMD2Task) -> int:
    """Return the bytes that ``--shard`` splits: weights, gradients and what optimizers keep of them."""
    weights = [weight for network in _networks(task) for weight in network.parameters()]
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    states = [state for part in task.parts.values() for state in part.optimizer.state.values()]
    kept = [value for state in states for value in state.values() if isinstance(value, Tensor) and value.ndim]
    return sum(tensor.nbytes for tensor in (*weights, *gradients, *kept))


def _loaded(pipe: Any) -> Any:
    from steer.models.load import load_model

    model = load_model(pipe, manager())
    model.backbone._lent = None  # it is ours, as if it had been loaded
    model.backbone.reside(torch.device("cuda", 0), crowded=False)
    return model


@click.command()
@click.option("--only", "words", multiple=True, help="Predict the scenarios whose name holds this; repeatable.")
def main(words: tuple[str, ...]) -> None:
    """Predict the memory of every scenario and write the table into docs/dmd2.md."""
    found = {}
    for scenario in SCENARIOS:
        if not words or any(word in scenario.name for word in words):
            values = ("–" if value is None else f"{value:.1f}" for value in predict(scenario).values())
            found[scenario.name] = f"| {scenario.name} | {' | '.join(values)} |"
            click.echo(found[scenario.name])
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    old, _, after = rest.partition(END)
    rows = {line.split("|")[1].strip(): line for line in old.splitlines() if line.startswith("|")} | found
    head = [
        f"| 1024 px, SD 1.5 512 px; GB | weights | between steps | peak | each of {GPUS} GPUs, at most |",
        "|---|---:|---:|---:|---:|",
    ]
    lines = [*head, *(rows[scenario.name] for scenario in SCENARIOS if scenario.name in rows)]
    PAGE.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
