"""The parts of ``gpu.py``: what each computes, row by row, on a CUDA device or small on the CPU."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from families import FAMILIES, VARIANTS, brightness, measure, preview_folder

from steer import Prompt, Sampler, SteerError
from steer.errors import one_line
from steer.models.device import out_of_memory
from steer.models.load import load_model
from steer.models.options import OFFLOADS, ModelOptions, denoiser_of, modules_of
from steer.models.quantize import PACKAGES
from steer.models.room import bytes_of
from steer.registry.plugins import manager
from steer.render.replay import request_of
from steer.rewards.by_name import make_reward
from steer.rewards.resizing import resized
from steer.sampling.gradient_by_noise import vjp
from steer.sampling.hooks import make_run

Row = dict[str, Any]
HERE = Path(__file__).resolve().parent
PROMPTS = ["a red circle", "a blue square"]
FINE = 3
"""By how many of 255 images may differ whose weights moved between devices."""
HALVES = 8
"""How many units in the last place of half precision the latents of four steps may differ from stock's."""


@dataclass
class Machine:
    """Where parts compute, and how large.

    Attributes:
        smoke: tiny models on the CPU.
        out: folder for what a part needs on disk.
        fk_repo: checkout of the published FK.
        predicts: whether models have sizes and no content.
    """

    smoke: bool
    out: Path
    fk_repo: Path | None = None
    predicts: bool = False

    @property
    def device(self) -> str:
        """Where models compute."""
        return "cpu" if self.smoke else "cuda"

    @property
    def dtype(self) -> torch.dtype:
        """Precision of their weights."""
        return torch.float32 if self.smoke else torch.bfloat16

    @property
    def steps(self) -> int:
        """Steps of a run that is timed."""
        return 3 if self.smoke else 20

    def pipe(self, family: str) -> Any:
        """Return a family's pipeline with random weights, built where and as it is used."""
        return self.built(lambda: FAMILIES[family](self.smoke))

    def built(self, make: Callable[[], Any]) -> Any:
        """Return a pipeline with random weights, built where and as it is used."""
        torch.manual_seed(0)
        torch.set_default_dtype(self.dtype)
        try:
            with torch.device("meta" if self.predicts else self.device):
                return make()
        finally:
            torch.set_default_dtype(torch.float32)

    def sampler(self, family: str, **options: Any) -> Sampler:
        """Return a sampler of a family."""
        if self.predicts:
            return Sampler(self.pipe(family).to("cuda"))
        return Sampler(self.pipe(family), device=self.device, model_options=ModelOptions(**options))

    def size(self, family: str) -> int | None:
        """Return an image's side in pixels; ``None`` for the family's own."""
        return 64 if self.smoke and family in ("sd3", "flux") else None

    @contextmanager
    def peak(self, row: Row) -> Iterator[None]:
        """Put the seconds of a block and its peak beside what was allocated before into a row."""
        if not self.smoke:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        start = time.perf_counter()
        yield
        if not self.smoke:
            torch.cuda.synchronize()
            row["peak_gb"] = (torch.cuda.max_memory_allocated() - before) / 1e9
        row["seconds"] = time.perf_counter() - start


def filled(row: Row, compute: Callable[[Row], None]) -> Row:
    """Return a row with what a function adds to it. A machine without the memory for it is told, and is no fault; any
    other error is one, and the next row is computed all the same."""
    try:
        compute(row)
    except Exception as error:
        if lacks_memory(error):
            row["left_out"] = "out of memory"
        else:
            traceback.print_exc()
            row |= {"failed": one_line(f"{type(error).__name__}: {error}")[:200], "ok": False}
    torch.cuda.empty_cache()
    return row


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that memory does not suffice."""
    return out_of_memory(error) or (isinstance(error, SteerError) and str(error).startswith("out of memory"))


class Bright:
    """The mean brightness of images as rewards see them, in another size; differentiable."""

    name, differentiable = "brightness", True

    def __call__(self, samples: torch.Tensor, prompts: Any) -> torch.Tensor:
        """Score ``[N, 3, H, W]``."""
        return brightness(resized(samples, (224, 224)), prompts)


def pixels(result: Any) -> list[torch.Tensor]:
    """Return every image as whole numbers in 0..255, ``[H, W, 3]``."""
    return [torch.from_numpy(np.array(sample.value)).int() for item in result.items for sample in item.samples]


def gap(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> int:
    """Return by how many of 255 two runs' images differ at most."""
    return max(int((a - b).abs().max()) for a, b in zip(one, other, strict=True))


def replayed(sampler: Sampler, result: Any, reward: Any) -> Any:
    """Make a result's only prompt again from its recipe; rewards that are objects in memory are in none."""
    recipe = result.items[0].recipe
    return sampler.generate([recipe.as_prompt()], **{**request_of(recipe).arguments(), "reward": reward})


# ---- the suite ------------------------------------------------------------------------------------------------

TESTS = {
    "device": [
        "tests/sampling/test_pretended.py", "tests/training/test_pretended.py", "tests/rewards/test_resizing.py",
        *(f"tests/plugins/{name}/test_pretended.py" for name in ("rewards", "dmd2", "symmflow")),
        "tests/plugins/dmd2/test_placement.py",
    ],
    "offload": ["tests/models/test_offload.py"],
    "pipelines": ["tests/models/stock/test_pretended.py"],
    "sampling": ["tests/sampling", "tests/processes"],
    "models": ["tests/models"],
    "rewards": ["tests/plugins/rewards", "tests/plugins/detect", "tests/rewards"],
}  # fmt: skip
"""Tests whose arithmetic or devices another machine could change."""
ON_THE_DEVICE = ("device", "offload", "pipelines")
"""Of those, the tests that name the device; others take the CPU of the machine and its torch."""
QUICK = ("tests/rewards/test_resizing.py", "tests/processes")


def tests(kind: str) -> Callable[[Machine], Iterator[Row]]:
    """Return the part that runs some of the suite's tests."""
    here = kind in ON_THE_DEVICE

    def part(machine: Machine) -> Iterator[Row]:
        chosen = [name for name in TESTS[kind] if not machine.smoke or name in QUICK]
        if not chosen:
            yield {"tests": " ".join(TESTS[kind]), "left_out": "takes minutes on a CPU"}
            return
        if missing := [name for name in ("pytest", "xdist") if importlib.util.find_spec(name) is None]:
            yield {"tests": " ".join(chosen), "left_out": f"needs pytest and pytest-xdist ({missing[0]} is missing)"}
            return
        workers = str(max(1, min(8, (os.cpu_count() or 2) // 2)))
        kinds = "not (process or browser)" if here else "not (process or browser or thorough)"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", kinds, "--numprocesses", workers, *chosen],
            cwd=HERE.parent, capture_output=True, text=True,
            # without this the tests hide a GPU from torch, which would choose it by default
            env={**os.environ, "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0") if here else ""},
        )  # fmt: skip
        print(done.stdout, done.stderr, sep="\n")  # to the log
        lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        ended = [line for line in lines if re.search(r"\d+ (passed|failed|skipped|error)", line)]
        yield {"tests": " ".join(chosen), "outcome": (ended or lines or ["nothing"])[-1], "ok": done.returncode == 0}
        yield from ({"failed": line, "ok": False} for line in failed)

    return part


def parity(machine: Machine) -> Iterator[Row]:
    """Compare every family's latents with stock; in half precision, rounding is all that may differ."""
    from support.families import all_families

    for family in all_families():
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            row: Row = {"family": family.name, "dtype": str(dtype)[6:]}
            yield filled(row, partial(_compare, machine, family, dtype))


def _compare(machine: Machine, family: Any, dtype: torch.dtype, row: Row) -> None:
    pipe = family.make().to(machine.device, dtype)
    size = {} if family.size is None else {"width": family.size[0], "height": family.size[1]}
    prompt = Prompt(family.texts[0], seed=5)
    settings = {"steps": 4, "chunk": 1, "particles": 1, **family.guided, **size}
    model = load_model(pipe, manager(), device=machine.device)
    with ExitStack() as stack:
        for name, value in family.backbone.items():
            stack.enter_context(patch.object(type(model.backbone), name, value))
        ours = make_run(model.backbone, [prompt], settings=settings).search().x.float().cpu()
    stock = pipe(
        prompt=str(prompt), num_inference_steps=4, output_type="latent",
        generator=torch.Generator().manual_seed(5), **size, **single(family.stock),
    ).images  # fmt: skip
    theirs = family.spatial(stock).float().cpu()
    relative = float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1))
    room = family.tolerance if dtype == torch.float32 else HALVES * torch.finfo(dtype).eps
    row |= {"gap": relative, "ok": math.isfinite(relative) and relative <= room}


def single(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return keyword arguments of a stock call of two prompts for a call of one."""
    return {name: value[:1] if isinstance(value, list) else value for name, value in arguments.items()}


# ---- memory ---------------------------------------------------------------------------------------------------


def peaks(machine: Machine) -> Iterator[tuple[Row, Callable[[], Any] | None]]:
    """Yield what takes memory beside the weights of every family, as runs call it; nothing to call if there is no
    room for the weights."""
    for family in FAMILIES:
        made: list[Sampler] = []
        build = partial(_build, made, partial(machine.sampler, family))
        row = filled({"family": family, "what": "weights"}, build)
        if not made:
            yield row, None
            continue
        backbone, side = made.pop().backbone, machine.size(family)

        def run_of(count: int, backbone: Any = backbone, side: int | None = side) -> Any:
            settings = {"steps": 1, "particles": count, "chunk": count, "width": side, "height": side}
            return make_run(backbone, [Prompt(PROMPTS[0], seed=1)], settings=settings)

        for count in (1, 4):
            run = run_of(count)
            latents = torch.zeros(count, *run.latent_shape, device=backbone.device)
            yield {"family": family, "what": f"decode {count}"}, partial(_decode, run, latents)
        for recompute in (True, False):
            what = "vjp" if recompute else "vjp, activations kept"
            yield {"family": family, "what": what}, partial(_differentiate, run_of(1), recompute)
        del backbone, run, latents, run_of


def _build(made: list[Sampler], make: Callable[[], Sampler], row: Row) -> None:
    made.append(make())


@torch.no_grad()
def _decode(run: Any, latents: torch.Tensor) -> None:
    run.forwards.decode(latents)


def _differentiate(run: Any, recompute: bool) -> None:
    vjp(run, run.start, {"brightness": brightness}, recompute=recompute)


def predictions(machine: Machine) -> Iterator[Row]:
    """Predict what :func:`memory` measures, by running it on a device of sizes without content."""
    from support.memory_model import modeled

    machine.predicts = True
    with modeled() as found:
        for row, call in peaks(machine):
            yield row if call is None else {**row, "predicted_gb": found.beside(call) / 1e9}


def memory(machine: Machine) -> Iterator[Row]:
    """Measure peaks beside the predictions, if these were made."""
    file = machine.out / "predictions.json"
    known = json.loads(file.read_text())["rows"] if file.is_file() else []
    by_case = {(row["family"], row["what"]): row["predicted_gb"] for row in known if "predicted_gb" in row}
    for row, call in peaks(machine):
        if call is None:
            yield row
            continue
        expected = by_case.get((row["family"], row["what"]))
        row |= {} if expected is None else {"predicted_gb": expected}

        def compute(row: Row, call: Callable[[], Any] = call) -> None:
            with machine.peak(row):
                call()

        yield filled(row, compute)


def loading(machine: Machine) -> Iterator[Row]:
    """Load SDXL from a folder: with room for all parts, with encoders that take turns with the rest, and quantized."""
    from full_size import sdxl

    folder = machine.out / "sdxl"
    pipe = machine.pipe("sdxl") if machine.smoke else machine.built(sdxl)
    room = int(1.2 * bytes_of(modules_of(pipe).values()))
    pipe.save_pretrained(folder)
    del pipe
    images: dict[str, list[torch.Tensor]] = {}
    here = [kind for kind, package in PACKAGES.items() if importlib.util.find_spec(package)]
    try:
        for what in ("whole", "in turns", *here):
            yield filled({"family": "sdxl", "what": what}, partial(_load, machine, folder, room, images))
        yield from ({"what": kind, "left_out": f"needs {PACKAGES[kind]}"} for kind in PACKAGES if kind not in here)
    finally:
        shutil.rmtree(folder)


def _load(machine: Machine, folder: Path, room: int, images: dict[str, list[torch.Tensor]], row: Row) -> None:
    what, start = row["what"], time.perf_counter()
    options = ModelOptions(quantize=what) if what in PACKAGES else ModelOptions()
    with patch("steer.models.load.room_of", lambda device: room if what == "in turns" else None):
        sampler = Sampler(
            folder, device=machine.device, dtype="fp32" if machine.smoke else "bf16", model_options=options
        )
    row["seconds_to_load"] = time.perf_counter() - start
    with machine.peak(row):
        images[what] = pixels(sampler.generate(PROMPTS, particles=2, steps=machine.steps, choose="all"))
    if "whole" in images:
        row["gap_of_255"] = gap(images["whole"], images[what])
    if what not in PACKAGES:
        waits = next(sampler.backbone.pipe.text_encoder.parameters()).device.type == "cpu"
        row["ok"] = row.get("gap_of_255", 0) == 0 and (machine.smoke or waits == (what == "in turns"))


def offload(machine: Machine) -> Iterator[Row]:
    """Generate the same images with parts or layers moved to the device as they are called."""
    if machine.smoke:
        yield {"left_out": "needs a CUDA device"}
        return
    images: dict[str, list[torch.Tensor]] = {}

    def compute(row: Row) -> None:
        mode = row["offload"]
        pipe = machine.pipe("sdxl")
        sampler = Sampler(pipe if mode == "none" else pipe.to("cpu"), device="cuda",
                          model_options=ModelOptions(offload=mode))  # fmt: skip
        with machine.peak(row):
            images[mode] = pixels(sampler.generate(PROMPTS[:1], particles=2, steps=4, choose="all"))
        row["gap_of_255"] = gap(next(iter(images.values())), images[mode])
        row["ok"] = row["gap_of_255"] <= FINE

    for mode in OFFLOADS:
        yield filled({"family": "sdxl", "offload": mode}, compute)


def oom(machine: Machine) -> Iterator[Row]:
    """Leave room for a smaller chunk only, and replay the recipe, which says the chunk that was left."""
    if machine.smoke:
        yield {"left_out": "needs a CUDA device"}
        return
    sampler = machine.sampler("sd15")
    arguments: Row = {"steps": 4, "particles": 16, "methods": ["fk"], "reward": brightness, "choose": "all"}
    row: Row = {"family": "sd15", "chunk": 16}
    with machine.peak(row):
        sampler.generate(PROMPTS[:1], chunk=16, **arguments)
    total = torch.cuda.get_device_properties(0).total_memory
    room = torch.cuda.memory_allocated() / total + 0.55 * row["peak_gb"] * 1e9 / total
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(room)
    try:
        halved = sampler.generate(PROMPTS[:1], chunk=16, **arguments)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    chunk = halved.items[0].recipe.settings["chunk"]
    same = gap(pixels(halved), pixels(replayed(sampler, halved, brightness))) == 0
    yield {**row, "halved_to": chunk, "same_bits_replayed": same, "ok": same and chunk < 16}


def replay(machine: Machine) -> Iterator[Row]:
    """Climb twice from the same noise, then from the recipe; attention and resizing go there and back."""
    sampler = machine.sampler("sd15")
    options = {"carinox": {"seeds": 2, "iterations": 2 if machine.smoke else 5, "weights": "uniform"}}
    reward = [Bright(), "clip:shapes"]
    first, second = (
        sampler.generate(PROMPTS[:1], methods=["carinox"], reward=reward, steps=1, options=options, choose="all")
        for _ in range(2)
    )
    for what, again in (("twice", second), ("replayed", replayed(sampler, first, reward))):
        same = gap(pixels(first), pixels(again)) == 0
        yield {"method": "carinox", "what": what, "same_bits": same, "ok": same}


# ---- time -----------------------------------------------------------------------------------------------------

SPEEDS = ("plain", "preview", "channels-last", "compiled")


def speed(family: str, variant: str) -> Callable[[Machine], Iterator[Row]]:
    """Return the part that times one variant of a family; each is made anew, so that none has what another changed."""

    def part(machine: Machine) -> Iterator[Row]:
        made: list[Sampler] = []
        build = partial(_build, made, partial(_sampler, machine, family, variant))
        row = filled({"family": family, "variant": variant}, build)
        if not made:
            yield row
            return
        for method, particles in VARIANTS[1:] if variant == "preview" else VARIANTS:
            row = {"family": family, "variant": variant, "method": method, "particles": particles}

            def compute(row: Row, method: str = method, particles: int = particles) -> None:
                row |= measure(made[0], method, particles, machine.steps, machine.size(family))

            yield filled(row, compute)

    return part


def _sampler(machine: Machine, family: str, variant: str) -> Sampler:
    pipe = machine.pipe(family)
    preview = None
    if variant == "preview":
        preview = preview_folder(pipe.vae.config.latent_channels, str(machine.out / f"preview-{family}"))
    if variant == "channels-last":
        denoiser_of(pipe).to(memory_format=torch.channels_last)
    compiled = variant == "compiled" and not machine.smoke  # minutes on a CPU
    return Sampler(pipe, device=machine.device, model_options=ModelOptions(preview=preview, compile=compiled))


def overhead(machine: Machine) -> Iterator[Row]:
    """Run the overhead benchmark on the embedded model, and on SD 1.5 at full size."""
    from overhead import bare, steered, timed

    for name in ("shapes", "sd15"):
        sampler = Sampler("shapes", device=machine.device) if name == "shapes" else machine.sampler(name)
        arguments = (1 if machine.smoke else 4, 4, machine.steps, 4)
        reward = make_reward(["clip:shapes"], {}, manager(), sampler.backbone.device)
        run = steered(sampler, reward, *arguments)
        bare(sampler, run, 4)
        turns = [
            (timed(steered, sampler, reward, *arguments)[0], timed(bare, sampler, run, 4)[0])
            for _ in range(2 if machine.smoke else 5)
        ]
        ratios = sorted(loop / forwards for loop, forwards in turns)
        middle = ratios[len(ratios) // 2]
        yield {"model": name, "ratio": middle, "ok": machine.smoke or middle <= 1.10}


def peers(machine: Machine) -> Iterator[Row]:
    """Time our FK beside the published one."""
    if machine.fk_repo is None:
        yield {"left_out": "needs --fk-repo, a checkout of github.com/zacharyhorvitz/Fk-Diffusion-Steering"}
        return
    sizes = ["--steps", "5", "--repeats", "1"] if machine.smoke else ["--prompts", "4"]
    command = [sys.executable, str(HERE / "peers.py"), "--fk-repo", str(machine.fk_repo), "--prompts", "1", *sizes,
               "--device", machine.device, "--json"]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)  # what it says of an error goes to the log
    if done.returncode:
        sys.exit(done.returncode)
    found = json.loads(done.stdout)
    yield from ({"what": name, **value} for name, value in found.items() if isinstance(value, dict))


PARTS: dict[str, Callable[[Machine], Iterator[Row]]] = {
    "predictions": predictions, "parity": parity, "memory": memory, "overhead": overhead, "replay": replay, "oom": oom,
    "loading": loading, "offload": offload, "peers": peers,
    **{f"tests-{kind}": tests(kind) for kind in TESTS},
    **{f"speed-{family}-{variant}": speed(family, variant) for family in FAMILIES for variant in SPEEDS},
}  # fmt: skip
"""Every part by its name, in the order in which they run: what can be wrong first, then what takes long."""
