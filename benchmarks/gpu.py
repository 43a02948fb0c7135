"""Everything that has to be seen on a CUDA device, in parts that resume; no network is needed.

    python benchmarks/gpu.py [--out outputs/gpu] [--minutes 9] [--part NAME …] [--fk-repo PATH] [--smoke] [--json]

Each part runs in a process of its own, so that one that runs out of memory or crashes takes nothing else with it, and
its rows are kept in ``--out`` as it ends. The command ends before ``--minutes`` are over; run it again to resume.
The exit code is 1 if a part failed or found what it should not.
Models have full size and random weights (:mod:`families`): time, memory and agreement do not depend on what they show.
``--smoke`` shrinks everything and computes on the CPU, to try the script.

tests-…    the suite's tests of devices on this machine's own, and of sampling, models and rewards on its torch
parity     every family at a tiny size, in bf16 and fp16, beside its stock pipeline
predictions, memory   peaks of decoding and of the way back through the decoder: by the model of memory, and measured
speed      images per second: plain, FK of 4 and 8, with a preview decoder, compiled, channels last
overhead   wall time of a steered run over that of its bare forwards
oom        a chunk halved by too little memory gives what that chunk gives from the start
replay     CARINOX twice, to the bit
offload    every kind of offload: seconds, peak, same images
peers      our FK beside the published one (with --fk-repo)
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from families import FAMILIES, VARIANTS, brightness, measure, preview_folder

from steer import Sampler
from steer.models.options import OFFLOADS, ModelOptions
from steer.rewards.resizing import resized
from steer.settings.strict_json import json_text

Row = dict[str, Any]
HERE = Path(__file__).resolve().parent
LIMIT = 540
"""Seconds that one part may take."""
PROMPTS = ["a red circle", "a blue square"]


class Machine:
    """Where parts compute, and how large."""

    def __init__(self, smoke: bool) -> None:
        self.smoke = smoke
        self.device = "cpu" if smoke else "cuda"
        self.dtype = torch.float32 if smoke else torch.bfloat16
        self.steps = 3 if smoke else 20
        self.predicts = False

    def pipe(self, family: str) -> Any:
        """Return a family's pipeline with random weights, built where and as it is used."""
        torch.manual_seed(0)
        torch.set_default_dtype(self.dtype)
        try:
            with torch.device("meta" if self.predicts else self.device):
                return FAMILIES[family](self.smoke)
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


TESTS = {
    "device": [
        "tests/sampling/test_pretended.py", "tests/training/test_pretended.py", "tests/rewards/test_resizing.py",
        *(f"tests/plugins/{name}/test_pretended.py" for name in ("rewards", "dmd2", "symmflow")),
        "tests/plugins/dmd2/test_placement.py",
    ],
    "sampling": ["tests/sampling", "tests/processes"],
    "models": ["tests/models"],
    "rewards": ["tests/plugins/rewards", "tests/rewards"],
}  # fmt: skip
"""Tests whose arithmetic or devices another machine could change."""


def tests(names: list[str]) -> Callable[[Machine], list[Row]]:
    """Return the part that runs some of the suite's tests."""

    def part(machine: Machine) -> list[Row]:
        chosen = [name for name in names if "resizing" in name or name == "tests/processes"] if machine.smoke else names
        if not chosen:
            return [{"skipped": "takes minutes on a CPU"}]
        workers = str(max(1, min(8, (os.cpu_count() or 2) // 2)))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "not (process or browser)",
             "--numprocesses", workers, *chosen],
            cwd=HERE.parent, capture_output=True, text=True,
        )  # fmt: skip
        lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        ended = [line for line in lines if re.search(r"\d+ (passed|failed|skipped|error)", line)]
        row: Row = {"tests": " ".join(chosen), "outcome": (ended or ["nothing"])[-1], "ok": done.returncode == 0}
        return [{**row, "which": failed} if failed else row]

    return part


def parity(machine: Machine) -> list[Row]:
    """Compare latents with stock in half precision; rounding is all that may differ."""
    from support.families import all_families

    from steer.models.load import load_model
    from steer.prompts.prompt import Prompt
    from steer.registry.plugins import manager
    from steer.sampling.hooks import make_run

    rows = []
    for family in all_families()[: 2 if machine.smoke else None]:
        for dtype in (torch.float32,) if machine.smoke else (torch.float32, torch.bfloat16, torch.float16):
            pipe = family.make().to(machine.device, dtype)
            size = {} if family.size is None else {"width": family.size[0], "height": family.size[1]}
            prompt = Prompt(family.texts[0], seed=5)
            settings = {"steps": 4, "chunk": 1, "particles": 1, **family.guided, **size}
            model = load_model(pipe, manager(), device=machine.device)
            for name, value in family.backbone.items():
                setattr(type(model.backbone), name, value)
            ours = make_run(model.backbone, [prompt], settings=settings).search().x.float().cpu()
            stock = pipe(
                prompt=str(prompt), num_inference_steps=4, output_type="latent",
                generator=torch.Generator().manual_seed(5), **size, **family.stock,
            ).images  # fmt: skip
            theirs = family.spatial(stock).float().cpu()
            gap = float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1))
            eps = torch.finfo(dtype).eps
            ok = math.isfinite(gap) and gap <= max(family.tolerance, 64 * eps)
            rows.append({"family": family.name, "dtype": str(dtype)[6:], "gap": gap, "ok": ok})
    return rows


def peaks(machine: Machine) -> Iterator[tuple[Row, Callable[[], Any]]]:
    """Yield what takes memory beside the weights of every family."""
    for family in FAMILIES:
        backbone = machine.sampler(family).backbone
        side = machine.size(family)
        x = torch.randn(1, *backbone.latent_shape(side, side), device=backbone.device)

        def decode(count: int, backbone: Any = backbone, x: torch.Tensor = x) -> None:
            with torch.no_grad():
                backbone.decode(x.expand(count, *x.shape[1:]))

        def pull(recompute: bool, backbone: Any = backbone, x: torch.Tensor = x) -> None:
            vae = backbone.safe_vae
            if recompute:
                vae.enable_gradient_checkpointing()
            leaf = x.clone().requires_grad_()
            backbone.decode(leaf).mean().backward()
            vae.disable_gradient_checkpointing()

        for count in (1, 4):
            yield {"family": family, "what": f"decode {count}"}, partial(decode, count)
        for recompute in (True, False):
            what = "decode and back" + (", recomputed" if recompute else "")
            yield {"family": family, "what": what}, partial(pull, recompute)
        del backbone, x, decode, pull


def predictions(machine: Machine) -> list[Row]:
    """Predict what :func:`memory` measures, by running it on a device of sizes without content."""
    from support.memory_model import modeled

    machine.predicts = True
    with modeled() as found:
        return [{**row, "predicted_gb": found.beside(call) / 1e9} for row, call in peaks(machine)]


def memory(predicted: Path) -> Callable[[Machine], list[Row]]:
    """Return the part that measures peaks beside the predictions in a file."""

    def part(machine: Machine) -> list[Row]:
        known = json.loads(predicted.read_text())["rows"] if predicted.is_file() else []
        by_case = {(row["family"], row["what"]): row["predicted_gb"] for row in known if "predicted_gb" in row}
        rows = []
        for row, call in peaks(machine):
            with machine.peak(row):
                call()
            expected = by_case.get((row["family"], row["what"]))
            rows.append({**row, **({} if expected is None else {"predicted_gb": expected})})
        return rows

    return part


def speed(family: str) -> Callable[[Machine], list[Row]]:
    """Return the part that times a family."""

    def part(machine: Machine) -> list[Row]:
        rows = []
        pipe = machine.pipe(family)
        preview = preview_folder(pipe.vae.config.latent_channels, str(HERE.parent / "outputs" / "gpu" / "preview"))

        def add(name: str, sampler: Sampler, variants: Any = VARIANTS) -> None:
            for method, particles in variants:
                found = measure(sampler, method, particles, machine.steps, machine.size(family))
                rows.append({"family": family, "variant": name, "method": method, "particles": particles, **found})

        add("", Sampler(pipe, device=machine.device))
        add("preview", Sampler(pipe, device=machine.device, model_options=ModelOptions(preview=preview)), VARIANTS[1:])
        if not machine.smoke:
            denoiser = pipe.unet if getattr(pipe, "unet", None) is not None else pipe.transformer
            denoiser.to(memory_format=torch.channels_last)
            add("channels last", Sampler(pipe, device=machine.device), VARIANTS[:2])
            add(
                "compiled", Sampler(pipe, device=machine.device, model_options=ModelOptions(compile=True)), VARIANTS[:2]
            )
        return rows

    return part


def overhead(machine: Machine) -> list[Row]:
    """Run the overhead benchmark on the embedded model, and on SD 1.5 at full size."""
    from overhead import bare, steered, timed

    rows = []
    samplers = {"shapes": Sampler("shapes", device=machine.device), "sd15": machine.sampler("sd15")}
    for name, sampler in samplers.items():
        arguments = (1 if machine.smoke else 4, 4, machine.steps, 4)
        from steer.registry.plugins import manager
        from steer.rewards.by_name import make_reward

        reward = make_reward(["clip:shapes"], {}, manager(), sampler.backbone.device)
        run = steered(sampler, reward, *arguments)
        bare(sampler, run, 4)
        turns = [
            (timed(steered, sampler, reward, *arguments)[0], timed(bare, sampler, run, 4)[0])
            for _ in range(2 if machine.smoke else 5)
        ]
        ratios = sorted(loop / forwards for loop, forwards in turns)
        middle = ratios[len(ratios) // 2]
        rows.append({"model": name, "ratio": middle, "ok": machine.smoke or middle <= 1.10})
    return rows


def oom(machine: Machine) -> list[Row]:
    """Leave room for a smaller chunk only, and compare with a run that asks for that chunk."""
    if machine.smoke:
        return [{"skipped": "needs a CUDA device"}]
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
    again = sampler.generate(PROMPTS[:1], chunk=chunk, **arguments)
    same = all(torch.equal(*pair) for pair in zip(_pixels(halved), _pixels(again), strict=True))
    return [{**row, "halved_to": chunk, "same_bits_again": same, "ok": same and chunk < 16}]


def replay(machine: Machine) -> list[Row]:
    """Climb twice from the same noise."""
    sampler = machine.sampler("sd15")
    options = {"carinox": {"seeds": 2, "iterations": 2 if machine.smoke else 5, "weights": "uniform"}}
    images = [
        _pixels(
            sampler.generate(PROMPTS[:1], methods=["carinox"], reward=Bright(), steps=1, options=options, choose="all")
        )
        for _ in range(2)
    ]
    same = all(torch.equal(*pair) for pair in zip(*images, strict=True))
    return [{"method": "carinox", "same_bits": same, "ok": same}]


def offload(machine: Machine) -> list[Row]:
    """Generate the same images with parts or layers moved to the device as they are called."""
    if machine.smoke:
        return [{"skipped": "needs a CUDA device"}]
    rows, first = [], None
    for mode in OFFLOADS:
        sampler = machine.sampler("sdxl", offload=mode) if mode == "none" else Sampler(
            machine.pipe("sdxl").to("cpu"), device="cuda", model_options=ModelOptions(offload=mode)
        )  # fmt: skip
        row: Row = {"family": "sdxl", "offload": mode}
        with machine.peak(row):
            result = sampler.generate(PROMPTS[:1], particles=2, steps=4, choose="all")
        pixels = _pixels(result)
        first = pixels if first is None else first
        gap = max(int((a - b).abs().max()) for a, b in zip(first, pixels, strict=True))
        rows.append({**row, "gap_of_255": gap, "ok": gap <= 3})
        del sampler
    return rows


def peers(repo: Path | None) -> Callable[[Machine], list[Row]]:
    """Return the part that times our FK beside the published one."""

    def part(machine: Machine) -> list[Row]:
        if repo is None:
            return [{"skipped": "needs --fk-repo, a checkout of the published implementation"}]
        count = "1" if machine.smoke else "4"
        command = [sys.executable, str(HERE / "peers.py"), "--fk-repo", str(repo), "--prompts", count, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        return [{"what": name, **value} for name, value in found.items() if isinstance(value, dict)]

    return part


class Bright:
    """The mean brightness of images as rewards see them, in another size; differentiable."""

    name, differentiable = "brightness", True

    def __call__(self, samples: torch.Tensor, prompts: Any) -> torch.Tensor:
        """Score ``[N, 3, H, W]``."""
        return brightness(resized(samples, (224, 224)), prompts)


def _pixels(result: Any) -> list[torch.Tensor]:
    """Return every image as whole numbers in 0..255, ``[H, W, 3]``."""
    return [torch.from_numpy(np.array(sample.value)).int() for item in result.items for sample in item.samples]


def parts(repo: Path | None, out: Path, smoke: bool) -> dict[str, Callable[[Machine], list[Row]]]:
    """Return every part by its name, in the order in which they run."""
    return {
        "predictions": predictions, "parity": parity, "memory": memory(_file(out, "predictions", smoke)),
        "overhead": overhead, "replay": replay, "oom": oom, "offload": offload,
        **{f"speed-{family}": speed(family) for family in FAMILIES}, "peers": peers(repo),
        **{f"tests-{name}": tests(paths) for name, paths in TESTS.items()},
    }  # fmt: skip


def _file(out: Path, name: str, smoke: bool) -> Path:
    return out / f"{name}{'-smoke' if smoke else ''}.json"


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("outputs/gpu"), show_default=True)
@click.option("--minutes", default=9.0, show_default=True, help="Begin no part that might not end within them.")
@click.option("--part", "names", multiple=True, help="Repeatable; all by default.")
@click.option("--fk-repo", type=click.Path(path_type=Path, exists=True), help="Checkout of the published FK.")
@click.option("--again", is_flag=True, help="Measure parts anew that are there.")
@click.option("--smoke", is_flag=True, help="Tiny sizes on the CPU, to try the script.")
@click.option("--here", is_flag=True, hidden=True, help="Run the one part in this process and print its rows.")
@click.option("--json", "as_json", is_flag=True, help="Print all rows as JSON on stdout.")
def main(
    out: Path,
    minutes: float,
    names: tuple[str, ...],
    fk_repo: Path | None,
    again: bool,
    smoke: bool,
    here: bool,
    as_json: bool,
) -> None:
    """Run the parts that are missing."""
    known = parts(fk_repo, out, smoke)
    if unknown := [name for name in names if name not in known]:
        raise click.UsageError(f"unknown part {unknown[0]!r}; parts are {', '.join(known)}")
    if not smoke and not here and not torch.cuda.is_available():
        raise click.UsageError("torch sees no CUDA device; give --smoke to try the script on the CPU")
    if here:
        click.echo(json_text(known[names[0]](Machine(smoke))))
        return
    out.mkdir(parents=True, exist_ok=True)
    began, good = time.monotonic(), True
    for name in names or known:
        file = _file(out, name, smoke)
        left = minutes * 60 - (time.monotonic() - began)
        if file.is_file() and not again and not any("failed" in row for row in json.loads(file.read_text())["rows"]):
            continue
        if left < 60:
            click.echo(f"{name} and later parts are left for another run", err=True)
            break
        rows = _in_a_process(name, out, min(left, LIMIT), smoke, fk_repo)
        file.write_text(json_text({"machine": _machine(smoke), "rows": rows}) + "\n")
        good &= all(row.get("ok", True) for row in rows)
        for row in rows:
            click.echo(f"{name}: " + " ".join(f"{k}={_shown(v)}" for k, v in row.items()), err=True)
    if as_json:
        found = sorted(out.glob("*-smoke.json" if smoke else "*[!e].json"))
        click.echo(json_text({file.stem: json.loads(file.read_text()) for file in found}))
    sys.exit(0 if good else 1)


def _in_a_process(name: str, out: Path, seconds: float, smoke: bool, repo: Path | None) -> list[Row]:
    command = [sys.executable, __file__, "--part", name, "--here", "--out", str(out), *(["--smoke"] if smoke else [])]
    command += [] if repo is None else ["--fk-repo", str(repo)]
    # a pretended device takes the place of a real one
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if name == "predictions" else {}
    environment = {**os.environ, **hidden, "PYTHONPATH": os.pathsep.join([str(HERE.parent / "tests"), *sys.path])}
    start = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment)
    except subprocess.TimeoutExpired:
        return [{"failed": f"not done after {seconds:.0f} s", "ok": False}]
    if done.returncode:
        return [{"failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:300], "ok": False}]
    rows: list[Row] = json.loads(done.stdout.strip().splitlines()[-1])
    return [*rows, {"part_seconds": time.monotonic() - start}]


def _machine(smoke: bool) -> str:
    return f"torch {torch.__version__}, {'CPU' if smoke else torch.cuda.get_device_name()}"


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
